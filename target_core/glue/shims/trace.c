// SPDX-License-Identifier: GPL-2.0
/* Tracepoints of a command's life. Rust asks their static keys itself, and calls these where one is on. */
#include <linux/export.h>
#include <linux/types.h>
#include "../shims.h"
#define CREATE_TRACE_POINTS
#include "../lio_trace.h"

EXPORT_TRACEPOINT_SYMBOL_GPL(lio_received);
EXPORT_TRACEPOINT_SYMBOL_GPL(lio_admitted);
EXPORT_TRACEPOINT_SYMBOL_GPL(lio_submitted);
EXPORT_TRACEPOINT_SYMBOL_GPL(lio_completed);
EXPORT_TRACEPOINT_SYMBOL_GPL(lio_answered);
EXPORT_TRACEPOINT_SYMBOL_GPL(lio_sent);

void lio_do_trace_received(const void *cmd, u64 tag, u64 lun, const u8 *cdb, u32 cdb_len, u32 expected,
			   const char *initiator, const char *port)
{
	trace_lio_received(cmd, tag, lun, cdb, cdb_len, expected, initiator, port);
}
EXPORT_SYMBOL_GPL(lio_do_trace_received);

void lio_do_trace_admitted(const void *cmd, const char *device, u64 wanted)
{
	trace_lio_admitted(cmd, device, wanted);
}
EXPORT_SYMBOL_GPL(lio_do_trace_admitted);

void lio_do_trace_submitted(const void *cmd, u32 op, u64 pos, u64 len)
{
	trace_lio_submitted(cmd, op, pos, len);
}
EXPORT_SYMBOL_GPL(lio_do_trace_submitted);

void lio_do_trace_completed(const void *cmd, bool failed)
{
	trace_lio_completed(cmd, failed);
}
EXPORT_SYMBOL_GPL(lio_do_trace_completed);

void lio_do_trace_answered(const void *cmd, u32 status, u32 sense, const char *device)
{
	trace_lio_answered(cmd, status, sense, device);
}
EXPORT_SYMBOL_GPL(lio_do_trace_answered);

void lio_do_trace_sent(const void *cmd)
{
	trace_lio_sent(cmd);
}
EXPORT_SYMBOL_GPL(lio_do_trace_sent);
