/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A command's life, as tracepoints (events/lio in tracefs; scripts/follow reads them). `cmd` is the same in all events of a
 * command, and another command's after `lio_sent`.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM lio

#if !defined(LIO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define LIO_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(lio_received,
	TP_PROTO(const void *cmd, u64 tag, u64 lun, const u8 *cdb, u32 cdb_len, u32 expected, const char *initiator,
		 const char *port),
	TP_ARGS(cmd, tag, lun, cdb, cdb_len, expected, initiator, port),
	TP_STRUCT__entry(
		__field(const void *, cmd)
		__field(u64, tag)
		__field(u64, lun)
		__field(u32, expected)
		__dynamic_array(u8, cdb, min_t(u32, cdb_len, 32))
		__string(initiator, initiator)
		__string(port, port)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
		__entry->tag = tag;
		__entry->lun = lun;
		__entry->expected = expected;
		memcpy(__get_dynamic_array(cdb), cdb, min_t(u32, cdb_len, 32));
		__assign_str(initiator);
		__assign_str(port);
	),
	TP_printk("cmd=%p tag=%#llx lun=%016llx expected=%u cdb=%s initiator=%s port=%s", __entry->cmd, __entry->tag,
		  __entry->lun, __entry->expected, __print_hex_str(__get_dynamic_array(cdb), __get_dynamic_array_len(cdb)),
		  __get_str(initiator), __get_str(port))
);

TRACE_EVENT(lio_admitted,
	TP_PROTO(const void *cmd, const char *device, u64 wanted),
	TP_ARGS(cmd, device, wanted),
	TP_STRUCT__entry(
		__field(const void *, cmd)
		__field(u64, wanted)
		__string(device, device)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
		__entry->wanted = wanted;
		__assign_str(device);
	),
	TP_printk("cmd=%p wanted=%llu device=%s", __entry->cmd, __entry->wanted, __get_str(device))
);

TRACE_EVENT(lio_submitted,
	TP_PROTO(const void *cmd, u32 op, u64 pos, u64 len),
	TP_ARGS(cmd, op, pos, len),
	TP_STRUCT__entry(
		__field(const void *, cmd)
		__field(u32, op)
		__field(u64, pos)
		__field(u64, len)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
		__entry->op = op;
		__entry->pos = pos;
		__entry->len = len;
	),
	TP_printk("cmd=%p op=%s pos=%llu len=%llu", __entry->cmd,
		  __print_symbolic(__entry->op, { 0, "none" }, { 1, "read" }, { 2, "write" }, { 3, "write-through" },
				   { 4, "flush" }, { 5, "unmap" }, { 6, "write-zeroes" }, { 7, "status" }),
		  __entry->pos, __entry->len)
);

TRACE_EVENT(lio_completed,
	TP_PROTO(const void *cmd, bool failed),
	TP_ARGS(cmd, failed),
	TP_STRUCT__entry(
		__field(const void *, cmd)
		__field(bool, failed)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
		__entry->failed = failed;
	),
	TP_printk("cmd=%p failed=%d", __entry->cmd, __entry->failed)
);

/* sense: KEY << 16 | ADDITIONAL SENSE CODE << 8 | QUALIFIER, 0 without sense data */
TRACE_EVENT(lio_answered,
	TP_PROTO(const void *cmd, u32 status, u32 sense, const char *device),
	TP_ARGS(cmd, status, sense, device),
	TP_STRUCT__entry(
		__field(const void *, cmd)
		__field(u32, status)
		__field(u32, sense)
		__string(device, device)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
		__entry->status = status;
		__entry->sense = sense;
		__assign_str(device);
	),
	TP_printk("cmd=%p status=%#04x sense=%06x device=%s", __entry->cmd, __entry->status, __entry->sense,
		  __get_str(device))
);

TRACE_EVENT(lio_sent,
	TP_PROTO(const void *cmd),
	TP_ARGS(cmd),
	TP_STRUCT__entry(
		__field(const void *, cmd)
	),
	TP_fast_assign(
		__entry->cmd = cmd;
	),
	TP_printk("cmd=%p", __entry->cmd)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE lio_trace
#include <trace/define_trace.h>
