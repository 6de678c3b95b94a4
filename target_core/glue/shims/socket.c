// SPDX-License-Identifier: GPL-2.0
/* TCP sockets of the kernel: listening ones, and connections that never block. */
#include <linux/bvec.h>
#include <linux/export.h>
#include <linux/inet.h>
#include <linux/ipv6.h>
#include <linux/net.h>
#include <linux/nsproxy.h>
#include <net/net_namespace.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/uio.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>
#include "../shims.h"

struct lio_sock {
	struct socket *sock;
	struct lio_waker *waker;	/* owned by whoever owns the socket; NULL for a listener */
	/* The socket's own, while ours are in their place. */
	void (*data_ready)(struct sock *sk);
	void (*write_space)(struct sock *sk);
	void (*state_change)(struct sock *sk);
};

static_assert(sizeof(struct sockaddr_in6) <= LIO_ADDR_LEN);

int lio_addr_parse(const char *ip, const char *port, __u8 *addr)
{
	struct sockaddr_storage ss = {};
	int ret = inet_pton_with_scope(current->nsproxy->net_ns, AF_UNSPEC, ip, port, &ss);

	memcpy(addr, &ss, LIO_ADDR_LEN);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_addr_parse);

static void addr_load(struct sockaddr_storage *ss, const __u8 *addr)
{
	memset(ss, 0, sizeof(*ss));
	memcpy(ss, addr, LIO_ADDR_LEN);
}

int lio_addr_print(const __u8 *addr, bool port, char *out, size_t len)
{
	struct sockaddr_storage ss;

	addr_load(&ss, addr);
	return port ? scnprintf(out, len, "%pISpc", &ss) : scnprintf(out, len, "%pISc", &ss);
}
EXPORT_SYMBOL_GPL(lio_addr_print);

bool lio_addr_is_v6(const __u8 *addr)
{
	struct sockaddr_storage ss;

	addr_load(&ss, addr);
	return ss.ss_family == AF_INET6;
}
EXPORT_SYMBOL_GPL(lio_addr_is_v6);

__u16 lio_addr_port(const __u8 *addr)
{
	struct sockaddr_storage ss;

	addr_load(&ss, addr);
	if (ss.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}
EXPORT_SYMBOL_GPL(lio_addr_port);

/* An IPv4 address in IPv6 clothes becomes an IPv4 one, so that a host counts as one whichever socket it meets. */
static void addr_store(struct sockaddr_storage *ss, __u8 *addr)
{
	if (ss->ss_family == AF_INET6) {
		struct sockaddr_in6 six = *(struct sockaddr_in6 *)ss;

		if (ipv6_addr_v4mapped(&six.sin6_addr)) {
			struct sockaddr_in *four = (struct sockaddr_in *)ss;

			memset(ss, 0, sizeof(*ss));
			four->sin_family = AF_INET;
			four->sin_port = six.sin6_port;
			four->sin_addr.s_addr = six.sin6_addr.s6_addr32[3];
		} else {
			((struct sockaddr_in6 *)ss)->sin6_flowinfo = 0;
		}
	}
	memcpy(addr, ss, LIO_ADDR_LEN);
}

int lio_sock_listen(const __u8 *addr, int backlog, struct lio_sock **out)
{
	struct sockaddr_storage ss;
	struct lio_sock *s;
	int ret;

	addr_load(&ss, addr);
	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	ret = sock_create(ss.ss_family, SOCK_STREAM, IPPROTO_TCP, &s->sock);
	if (ret)
		goto free;
	tcp_sock_set_nodelay(s->sock->sk);
	sock_set_reuseaddr(s->sock->sk);
	ip_sock_set_freebind(s->sock->sk);
	ret = kernel_bind(s->sock, (struct sockaddr_unsized *)&ss,
			  ss.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	if (!ret)
		ret = kernel_listen(s->sock, backlog);
	if (!ret) {
		*out = s;
		return 0;
	}
	sock_release(s->sock);
free:
	kfree(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_sock_listen);

/* Sleeps until there is a connection, or until the listener is shut down (-EINVAL). */
int lio_sock_accept(struct lio_sock *listener, struct lio_sock **out)
{
	struct lio_sock *s = kzalloc(sizeof(*s), GFP_KERNEL);
	int ret;

	if (!s)
		return -ENOMEM;
	ret = kernel_accept(listener->sock, &s->sock, 0);
	if (ret) {
		kfree(s);
		return ret;
	}
	s->sock->sk->sk_use_task_frag = false;
	tcp_sock_set_nodelay(s->sock->sk);
	sock_set_keepalive(s->sock->sk);
	*out = s;
	return 0;
}
EXPORT_SYMBOL_GPL(lio_sock_accept);

/* The network namespace of the caller. Where a socket is in it, no other one gets the same number. */
__u64 lio_net_cookie(void)
{
	return current->nsproxy->net_ns->net_cookie;
}
EXPORT_SYMBOL_GPL(lio_net_cookie);

static int lio_sock_set_int(struct socket *sock, int level, int name, int value)
{
	return sock->ops->setsockopt(sock, level, name, KERNEL_SOCKPTR(&value), sizeof(value));
}

int lio_sock_set_options(struct lio_sock *s, const struct lio_sock_options *o)
{
	struct sock *sk = s->sock->sk;
	int ret = 0;

	if (o->dscp) {
		/* An IPv6 socket may have an IPv4 host at its other end. */
		ret = lio_sock_set_int(s->sock, SOL_IP, IP_TOS, o->dscp << 2);
		if (!ret && sk->sk_family == AF_INET6)
			ret = lio_sock_set_int(s->sock, SOL_IPV6, IPV6_TCLASS, o->dscp << 2);
	}
	if (!ret && o->keepalive_time)
		ret = tcp_sock_set_keepidle(sk, o->keepalive_time);
	if (!ret && o->keepalive_intvl)
		ret = tcp_sock_set_keepintvl(sk, o->keepalive_intvl);
	if (!ret && o->keepalive_probes)
		ret = tcp_sock_set_keepcnt(sk, o->keepalive_probes);
	if (!ret && o->user_timeout)
		ret = tcp_sock_set_user_timeout(sk, o->user_timeout);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_sock_set_options);

static void lio_data_ready(struct sock *sk)
{
	struct lio_sock *s;

	read_lock_bh(&sk->sk_callback_lock);
	s = sk->sk_user_data;
	if (s)
		lio_waker_wake(s->waker, LIO_EVENT_RX);
	read_unlock_bh(&sk->sk_callback_lock);
}

static void lio_write_space(struct sock *sk)
{
	struct lio_sock *s;

	read_lock_bh(&sk->sk_callback_lock);
	s = sk->sk_user_data;
	if (s && sk_stream_is_writeable(sk)) {
		clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		lio_waker_wake(s->waker, LIO_EVENT_TX);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static void lio_state_change(struct sock *sk)
{
	struct lio_sock *s;

	read_lock_bh(&sk->sk_callback_lock);
	s = sk->sk_user_data;
	if (s)
		lio_waker_wake(s->waker, LIO_EVENT_RX | LIO_EVENT_TX);
	read_unlock_bh(&sk->sk_callback_lock);
}

/* Once, on an accepted socket. From here on the callbacks use `waker`, until lio_sock_release(). */
void lio_sock_attach(struct lio_sock *s, struct lio_waker *waker)
{
	struct sock *sk = s->sock->sk;

	s->waker = waker;
	write_lock_bh(&sk->sk_callback_lock);
	s->data_ready = sk->sk_data_ready;
	s->write_space = sk->sk_write_space;
	s->state_change = sk->sk_state_change;
	sk->sk_user_data = s;
	sk->sk_data_ready = lio_data_ready;
	sk->sk_write_space = lio_write_space;
	sk->sk_state_change = lio_state_change;
	write_unlock_bh(&sk->sk_callback_lock);
	/* What came before is not lost. */
	lio_waker_wake(waker, LIO_EVENT_RX | LIO_EVENT_TX);
}
EXPORT_SYMBOL_GPL(lio_sock_attach);

void lio_sock_shutdown(struct lio_sock *s)
{
	kernel_sock_shutdown(s->sock, SHUT_RDWR);
}
EXPORT_SYMBOL_GPL(lio_sock_shutdown);

void lio_sock_shutdown_send(struct lio_sock *s)
{
	kernel_sock_shutdown(s->sock, SHUT_WR);
}
EXPORT_SYMBOL_GPL(lio_sock_shutdown_send);

void lio_sock_release(struct lio_sock *s, bool abort)
{
	struct sock *sk = s->sock->sk;

	if (s->waker) {
		/*
		 * The callbacks that are running end, and later ones find nothing; see above. TCP keeps the sock for as
		 * long as the other side takes to close, and must not call into this module when it is gone.
		 */
		write_lock_bh(&sk->sk_callback_lock);
		sk->sk_user_data = NULL;
		sk->sk_data_ready = s->data_ready;
		sk->sk_write_space = s->write_space;
		sk->sk_state_change = s->state_change;
		write_unlock_bh(&sk->sk_callback_lock);
	}
	/* An aborted connection sends RST: unsent data must not keep its pages until TCP gives up. */
	if (abort)
		sock_no_linger(sk);
	sock_release(s->sock);
	kfree(s);
}
EXPORT_SYMBOL_GPL(lio_sock_release);

int lio_sock_addr(struct lio_sock *s, bool peer, __u8 *addr)
{
	struct sockaddr_storage ss = {};
	int ret = peer ? kernel_getpeername(s->sock, (struct sockaddr *)&ss) :
			 kernel_getsockname(s->sock, (struct sockaddr *)&ss);

	if (ret < 0)
		return ret;
	addr_store(&ss, addr);
	return 0;
}
EXPORT_SYMBOL_GPL(lio_sock_addr);

/*
 * `more`: there may be more to receive without another LIO_EVENT_RX, which follows when `need` bytes are there, those that
 * were received now among them (or when the socket's buffer is full).
 */
long lio_sock_recv(struct lio_sock *s, const struct bio_vec *bv, unsigned int n, size_t len, size_t need, bool *more)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	struct sock *sk = s->sock->sk;
	long ret, left;

	/* Before the queue is looked at: what comes later than that is an event. */
	if (READ_ONCE(sk->sk_rcvlowat) != 1)
		WRITE_ONCE(sk->sk_rcvlowat, 1);
	iov_iter_bvec(&msg.msg_iter, ITER_DEST, bv, n, len);
	ret = sock_recvmsg(s->sock, &msg, msg.msg_flags);
	/* The event of the other side's end may have come before, and that end be behind what was received here. */
	*more = ret == len || READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN || READ_ONCE(sk->sk_err);
	left = min_t(size_t, need, INT_MAX) - max(ret, 0L);
	if (!*more && left > 1)
		WRITE_ONCE(sk->sk_rcvlowat, left);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_sock_recv);

long lio_sock_send(struct lio_sock *s, const struct bio_vec *bv, unsigned int n, size_t len, bool splice, bool more)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };

	if (splice)
		msg.msg_flags |= MSG_SPLICE_PAGES;
	if (more)
		msg.msg_flags |= MSG_MORE;
	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, bv, n, len);
	return sock_sendmsg(s->sock, &msg);
}
EXPORT_SYMBOL_GPL(lio_sock_send);

/* A number that changes whenever the other side acknowledges bytes; `rest`: how many there are that it has not. */
u32 lio_sock_acked(struct lio_sock *s, u32 *rest)
{
	struct tcp_sock *tp = tcp_sk(s->sock->sk);
	u32 una = READ_ONCE(tp->snd_una);

	*rest = READ_ONCE(tp->write_seq) - una;
	return una;
}
EXPORT_SYMBOL_GPL(lio_sock_acked);

u32 lio_sock_idle_ms(struct lio_sock *s)
{
	return jiffies_to_msecs(tcp_jiffies32 - READ_ONCE(inet_csk(s->sock->sk)->icsk_ack.lrcvtime));
}
EXPORT_SYMBOL_GPL(lio_sock_idle_ms);
