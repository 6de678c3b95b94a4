/* SPDX-License-Identifier: GPL-2.0 */
/* What the engine's Rust code sees of its C shims: bindgen reads this file. */
#ifndef LIO_SHIMS_H
#define LIO_SHIMS_H
#include <linux/types.h>
#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/sbitmap.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct page;

/* page.c */
#define LIO_PAGE_MAX_ORDER 3	/* what the page allocator still caches per CPU */
struct page *lio_page_alloc(unsigned int order, bool zero, bool atomic);
struct page *lio_page_contiguous(unsigned int order);
struct page *lio_page_reuse(unsigned int order);
void lio_page_retire(struct page *page);
int lio_pages_prepare(void);
void lio_pages_release(void);
void lio_page_get(struct page *page);
void lio_page_put(struct page *page);
void *lio_page_address(struct page *page);
u16 lio_crc_t10dif(u16 crc, const void *data, size_t len);
u32 lio_crc32c(u32 crc, const void *data, size_t len);

/* module.c */
int lio_request_module(const char *name);
struct module;
bool lio_module_get(struct module *module);
void lio_module_put(struct module *module);
void lio_module_settle(void);
void lio_module_left(void);

/* defer.c: what is dropped after a grace period, or in process context */
struct lio_deferred {
	struct rcu_work work;
	void (*fn)(void *arg);
	void *arg;
};
int lio_defer_start(void);
void lio_defer_stop(void);
void lio_defer_flush(void);
struct lio_deferred *lio_deferred_alloc(void);
void lio_deferred_free(struct lio_deferred *d);
void lio_deferred_queue(struct lio_deferred *d, void (*fn)(void *arg), void *arg);

/* gate.c: a percpu_ref that is closed, waited for, and freed with what it guards */
struct lio_gate {
	struct percpu_ref ref;
	struct work_struct work;
	atomic_t parties;
	bool closing;
	bool closed;
	void (*free)(struct lio_gate *gate);
};
int lio_gate_init(struct lio_gate *gate, void (*free)(struct lio_gate *gate));
void lio_gate_exit(struct lio_gate *gate);
bool lio_gate_tryget(struct lio_gate *gate);
void lio_gate_get(struct lio_gate *gate);
void lio_gate_put(struct lio_gate *gate);
bool lio_gate_is_closing(struct lio_gate *gate);
void lio_gate_close(struct lio_gate *gate);
bool lio_gate_wait(struct lio_gate *gate, u32 timeout_ms);
void lio_gate_release(struct lio_gate *gate);

/* trace.c: tracepoints of a command's life */
struct tracepoint;
extern struct tracepoint __tracepoint_lio_received, __tracepoint_lio_admitted, __tracepoint_lio_submitted,
	__tracepoint_lio_completed, __tracepoint_lio_answered, __tracepoint_lio_sent;
void lio_do_trace_received(const void *cmd, u64 tag, u64 lun, const u8 *cdb, u32 cdb_len, u32 expected,
			   const char *initiator, const char *port);
void lio_do_trace_admitted(const void *cmd, const char *device, u64 wanted);
void lio_do_trace_submitted(const void *cmd, u32 op, u64 pos, u64 len);
void lio_do_trace_completed(const void *cmd, bool failed);
void lio_do_trace_answered(const void *cmd, u32 status, u32 sense, const char *device);
void lio_do_trace_sent(const void *cmd);

/* page_store.c: pages in an xarray */
void lio_pages_find(struct xarray *xa, unsigned long first, u32 n, struct page **out);
int lio_pages_add(struct xarray *xa, unsigned long index, struct page *page);
bool lio_pages_spare(void);
unsigned long lio_pages_room(void);
unsigned long lio_pages_drop(struct xarray *xa, unsigned long first, unsigned long last);
unsigned long lio_pages_run(struct xarray *xa, unsigned long first, unsigned long last, bool *there);
void lio_copy(void *to, const void *from, size_t len);
void lio_move(void *to, const void *from, size_t len);

/* system.c */
const char *lio_system_release(void);
const char *lio_system_machine(void);
u32 lio_system_centiseconds(unsigned long when);
int lio_system_check_dir(const char *name);
u64 lio_system_memory(void);

/* crypto.c */
struct lio_part {
	const u8 *data;
	size_t len;
};
void lio_random(void *to, size_t len);
void lio_wipe(void *at, size_t len);
bool lio_equal(const void *a, const void *b, size_t len);
bool lio_has_hash(const char *name);
int lio_hash(const char *name, const struct lio_part *parts, size_t count, u8 *out, size_t out_len);

/* percpu.c */
void *lio_percpu_alloc(size_t counters);
void lio_percpu_free(void *p);
void lio_percpu_add(void *p, u64 value);
u64 lio_percpu_sum(void *p);

/* tags.c */
int lio_tags_init(struct sbitmap *sb, u32 depth);
void lio_tags_free(struct sbitmap *sb);
void lio_tags_put(struct sbitmap *sb, u32 tag);

/* wait.c */
void lio_wait_init(struct wait_queue_head *wait);
bool lio_wait_active(struct wait_queue_head *wait);

/* workqueue.c */
struct workqueue_struct *lio_workqueue_alloc(const char *name, bool percpu, bool rescuer, u32 max_active);

/* thread.c */
struct module;
struct cpumask;
enum {
	/* What a socket wakes its owner with; the other bits are the owner's. */
	LIO_EVENT_RX = 1,
	LIO_EVENT_TX = 2,
};
/* The alarm's, which nobody sees. */
#define LIO_EVENT_TIME 0x80000000u
#define LIO_WAIT_FOREVER 0xffffffffu
/* Events for one sleeper, set from any context. */
struct lio_waker {
	wait_queue_head_t wq;
	atomic_t events;
};
void lio_waker_init(struct lio_waker *w);
void lio_waker_wake(struct lio_waker *w, unsigned int events);
unsigned int lio_waker_wait(struct lio_waker *w, unsigned int ms);
/* A timer for all sleeps of one sleeper. */
struct lio_alarm {
	struct timer_list timer;
	struct lio_waker *waker;
};
void lio_alarm_init(struct lio_alarm *a, struct lio_waker *w);
unsigned int lio_alarm_wait(struct lio_alarm *a, unsigned int ms);
void lio_alarm_end(struct lio_alarm *a);
int lio_thread_spawn(struct module *owner, const char *name, void (*run)(void *arg), void *arg);
__u64 lio_now_ms(void);
int lio_cpus_run_on(const struct cpumask *m);
bool lio_cpus_any_online(const struct cpumask *m);
struct cpumask *lio_cpus_alloc(void);
void lio_cpus_free(struct cpumask *m);
int lio_cpus_parse(struct cpumask *m, const char *list);
int lio_cpus_print(const struct cpumask *m, char *out, size_t len);

/* socket.c: addresses are the first bytes of a struct sockaddr_in or sockaddr_in6 */
#define LIO_ADDR_LEN 28
struct bio_vec;
struct lio_sock;
int lio_addr_parse(const char *ip, const char *port, __u8 *addr);
int lio_addr_print(const __u8 *addr, bool port, char *out, size_t len);
bool lio_addr_is_v6(const __u8 *addr);
__u16 lio_addr_port(const __u8 *addr);
/* What the TCP of a connection is told; 0 leaves what the system has. */
struct lio_sock_options {
	__u32 dscp;
	__u32 keepalive_time;		/* seconds */
	__u32 keepalive_intvl;		/* seconds */
	__u32 keepalive_probes;
	__u32 user_timeout;		/* milliseconds */
};
int lio_sock_set_options(struct lio_sock *s, const struct lio_sock_options *o);
__u64 lio_net_cookie(void);
int lio_sock_listen(const __u8 *addr, int backlog, struct lio_sock **out);
int lio_sock_accept(struct lio_sock *listener, struct lio_sock **out);
void lio_sock_attach(struct lio_sock *s, struct lio_waker *waker);
void lio_sock_shutdown(struct lio_sock *s);
void lio_sock_shutdown_send(struct lio_sock *s);
void lio_sock_release(struct lio_sock *s, bool abort);
int lio_sock_addr(struct lio_sock *s, bool peer, __u8 *addr);
u32 lio_sock_acked(struct lio_sock *s, u32 *rest);
u32 lio_sock_idle_ms(struct lio_sock *s);
long lio_sock_recv(struct lio_sock *s, const struct bio_vec *bv, unsigned int n, size_t len, size_t need, bool *more);
long lio_sock_send(struct lio_sock *s, const struct bio_vec *bv, unsigned int n, size_t len, bool splice, bool more);

/* configfs */
struct config_group;
struct config_item;
struct config_item_type;
struct configfs_subsystem;
void lio_configfs_types_lock(void);
void lio_configfs_types_unlock(void);
int lio_configfs_group_init(struct config_group *group, const char *name, int len,
			    const struct config_item_type *type);
void lio_configfs_subsystem_init(struct configfs_subsystem *subsys);
void lio_configfs_subsystem_lock(struct configfs_subsystem *subsys);
void lio_configfs_subsystem_unlock(struct configfs_subsystem *subsys);
void lio_configfs_add_default(struct config_group *parent, struct config_group *child);
struct config_group *lio_configfs_next_default(struct config_group *parent, struct config_group *prev);
struct config_group *lio_configfs_pop_default(struct config_group *parent);
bool lio_configfs_dead(struct config_item *item);

/* replace.c */
int lio_dir_make(const char *path);
int lio_file_replace(const char *path, const char *temp, const char *name, const void *data, size_t len);
ssize_t lio_file_read_whole(const char *path, void *data, size_t len);

/* file.c */
struct file;
struct kiocb;
struct bio_vec;
struct block_device;
#define LIO_FILE_MEMORY 1	/* in memory: no wait for a disk, nothing to synchronise */
#define LIO_FILE_CACHED 2	/* an up-to-date page of the page cache is the file's data */
#define LIO_FILE_NOWAIT 4	/* knows IOCB_NOWAIT */
#define LIO_FILE_DIRECT 8	/* knows IOCB_DIRECT */
#define LIO_RW_WRITE 1
#define LIO_RW_DSYNC 2		/* durable when it returns */
#define LIO_RW_CACHED 4		/* what can be had without I/O and without waiting, once */
#define LIO_RW_DIRECT 8
int lio_file_open(const char *path, bool write, struct file **out);
struct file *lio_file_slot_get(struct file **slot);
struct file *lio_file_slot_peek(struct file **slot);
struct file *lio_file_slot_replace(struct file **slot, struct file *file);
u64 lio_file_size(struct file *file);
struct block_device *lio_file_bdev(struct file *file);
unsigned int lio_file_traits(struct file *file);
bool lio_file_may_inline(void);
ssize_t lio_file_rw(struct file *file, loff_t pos, const struct bio_vec *bv, unsigned long nr, size_t len,
		    size_t skip, unsigned int flags);
ssize_t lio_file_aio(struct kiocb *iocb, struct file *file, loff_t pos, const struct bio_vec *bv,
		     unsigned long nr, size_t len, unsigned int flags, void (*complete)(struct kiocb *, long));
void lio_file_aio_done(struct kiocb *iocb);
ssize_t lio_file_copy(struct file *from, loff_t pos, struct file *to, loff_t at, size_t len);
int lio_file_sync(struct file *file, loff_t start, loff_t end);
u32 lio_file_errors(struct file *file);
int lio_file_error_since(struct file *file, u32 since);
bool lio_file_space(struct file *file, u64 *available, u64 *used);
int lio_file_punch(struct file *file, loff_t pos, loff_t len);
int lio_file_truncate(struct file *file, loff_t len);
int lio_file_discard(struct file *file, loff_t pos, loff_t len);
int lio_file_zero(struct file *file, loff_t pos, loff_t len);
int lio_file_write_zeroes(struct file *file, loff_t pos, loff_t len);
loff_t lio_file_run(struct file *file, loff_t pos, bool *data);
unsigned int lio_file_lend(struct file *file, unsigned long index, unsigned int nr, struct page **pages);

/* bdev.c */
struct bio;
struct lio_bdev_limits {
	u32 logical_block;		/* bytes */
	u32 physical_block;		/* bytes */
	s32 alignment_offset;		/* bytes; -1: misaligned */
	u32 io_min;			/* bytes */
	u32 io_opt;			/* bytes */
	u32 max_hw_sectors;		/* of 512 bytes, as all sectors here */
	u32 nr_requests;
	u32 max_discard_sectors;
	u32 discard_granularity;	/* bytes */
	u32 discard_alignment;		/* bytes */
	u32 write_zeroes_sectors;
	u32 atomic_max;			/* bytes of an atomic write, 0: there are none */
	u32 atomic_unit;		/* bytes, of which its position and length are multiples */
	u32 major;
	u32 minor;
	bool rotational;
};
#define LIO_BIO_READ 0
#define LIO_BIO_WRITE 1
#define LIO_BIO_WRITE_FUA 2
#define LIO_BIO_FLUSH 3
#define LIO_BIO_WRITE_ATOMIC 5
#define LIO_BIO_WRITE_ATOMIC_FUA 6
#define LIO_BIO_ANCHOR 4	/* is not submitted: others are chained to it */
#define LIO_BIO_NOWAIT 8	/* with one of these: is answered -EAGAIN where it would have to wait to begin */
int lio_bdev_open(const char *path, bool write, void *holder, struct file **out);
void lio_bdev_yield(struct file *file);
void lio_bdev_limits(struct block_device *bdev, struct lio_bdev_limits *out);
int lio_bdev_name(struct block_device *bdev, char *buf, size_t len);
u64 lio_bdev_bytes(struct block_device *bdev);
bool lio_bdev_write_cache(struct block_device *bdev);
bool lio_bdev_lacks_fua(struct block_device *bdev);
bool lio_bdev_flushes_for_fua(struct block_device *bdev);
u32 lio_bdev_dma_alignment(struct block_device *bdev);
u32 lio_bdev_block(struct block_device *bdev);
bool lio_bdev_stable_writes(struct block_device *bdev);
bool lio_bdev_gone(struct block_device *bdev);
bool lio_bdev_nowait(struct block_device *bdev);
bool lio_bdev_stacked(struct block_device *bdev);
int lio_bdev_zero(struct block_device *bdev, u64 sector, u64 nr, bool unmap);
void lio_bio_init(struct bio *bio, struct block_device *bdev, unsigned int op, u64 sector,
		  void (*end)(struct bio *));
void lio_bio_set_bvecs(struct bio *bio, const struct bio_vec *bv, unsigned int nr, unsigned int len);
void lio_bio_discard(struct bio *anchor, struct block_device *bdev, u64 sector, u64 nr);
unsigned int lio_bdev_protection(struct block_device *bdev);
int lio_bio_set_protection(struct bio *bio, const struct bio_vec *bv, unsigned int nr);
int lio_bio_errno(struct bio *bio);

/* noio.c */
unsigned int lio_noio_enter(void);
void lio_noio_leave(unsigned int was);

#endif
