// SPDX-License-Identifier: GPL-2.0

//! TCP sockets: listeners, and connections that are read and written without ever blocking, straight into and out
//! of the pages of [`Buffer`]s.

use crate::{
    buffer::{Buffer, PageRef},
    sys,
    thread::Waker,
};
use core::{
    marker::PhantomData,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    ptr::NonNull,
};
use kernel::{
    bindings,
    error::{code::*, to_result},
    page::PAGE_SIZE,
    prelude::*,
    str::CStr,
    sync::Arc,
};

/// An IPv4 or IPv6 address with a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address([u8; sys::LIO_ADDR_LEN as usize]);

impl Address {
    /// Parses an address (IPv6 without brackets, with an optional `%scope`) and a decimal port.
    ///
    /// # Errors
    /// `EINVAL` and others of the kernel's own parser.
    pub fn parse(ip: &CStr, port: &CStr) -> Result<Self> {
        let mut a = Address([0; sys::LIO_ADDR_LEN as usize]);
        // SAFETY: Two C strings and an array of the size that the shim writes.
        to_result(unsafe {
            sys::lio_addr_parse(ip.as_char_ptr(), port.as_char_ptr(), a.0.as_mut_ptr())
        })?;
        Ok(a)
    }

    /// Whether this is an IPv6 address.
    pub fn is_v6(&self) -> bool {
        // SAFETY: An array of the size that the shim reads.
        unsafe { sys::lio_addr_is_v6(self.0.as_ptr()) }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        // SAFETY: As above.
        unsafe { sys::lio_addr_port(self.0.as_ptr()) }
    }

    /// As the standard library has it, with the scope of a link-local address.
    pub fn to_socket_addr(&self) -> SocketAddr {
        // The layouts of `sockaddr_in` and `sockaddr_in6`: the address begins with byte 4 and 8, the scope
        // with byte 24.
        if self.is_v6() {
            let (mut ip, mut scope) = ([0; 16], [0; 4]);
            ip.copy_from_slice(&self.0[8..24]);
            scope.copy_from_slice(&self.0[24..28]);
            let scope = u32::from_ne_bytes(scope);
            return SocketAddrV6::new(Ipv6Addr::from(ip), self.port(), 0, scope).into();
        }
        let ip = Ipv4Addr::new(self.0[4], self.0[5], self.0[6], self.0[7]);
        SocketAddr::new(ip.into(), self.port())
    }

    /// Whether the host is the same, whatever the ports are.
    pub fn same_host(&self, other: &Self) -> bool {
        // Both families have the port in bytes 2 and 3.
        self.0[..2] == other.0[..2] && self.0[4..] == other.0[4..]
    }

    /// Writes the address as text, with brackets for IPv6 and, if `port`, the port after a colon; returns the length. The scope
    /// of a link-local address is left out: its number means nothing to others.
    pub fn print(&self, port: bool, out: &mut [u8; 64]) -> usize {
        // SAFETY: Two arrays of the sizes that are given.
        let n = unsafe {
            sys::lio_addr_print(self.0.as_ptr(), port, out.as_mut_ptr().cast(), out.len())
        };
        usize::try_from(n).map_or(0, |n| n.min(out.len()))
    }
}

impl kernel::fmt::Display for Address {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let mut b = [0; 64];
        let n = self.print(true, &mut b);
        f.write_str(core::str::from_utf8(&b[..n]).unwrap_or("?"))
    }
}

/// A C socket of ours, released when dropped.
struct Raw(NonNull<sys::lio_sock>);

// SAFETY: The socket layer does its own locking.
unsafe impl Send for Raw {}
// SAFETY: As above.
unsafe impl Sync for Raw {}

/// A network namespace, as a number. As long as a socket is in it, no other one has the same number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NetId(u64);

impl NetId {
    /// That of the process which is calling: its sockets are made there.
    pub fn current() -> Self {
        // SAFETY: The current task has namespaces until it is dead.
        Self(unsafe { sys::lio_net_cookie() })
    }
}

/// What TCP is told about a connection; 0 leaves what the system has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The six bits of RFC 2474.
    pub dscp: u32,
    /// After how many seconds without a segment the other side is asked whether it is there.
    pub keepalive_time: u32,
    /// Seconds between two such questions.
    pub keepalive_intvl: u32,
    /// How many of them stay without an answer.
    pub keepalive_probes: u32,
    /// How long what was sent may not be acknowledged, in milliseconds (RFC 5482).
    pub user_timeout: u32,
}

/// A listening socket.
pub struct Listener(Raw);

impl Listener {
    /// Listens on `addr`, which need not be an address of this machine yet.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2), `EADDRINUSE` first of all.
    pub fn bind(addr: &Address, backlog: i32) -> Result<Self> {
        let mut out = core::ptr::null_mut();
        // SAFETY: An address of the size that the shim reads; it sets `out` where it succeeds.
        to_result(unsafe { sys::lio_sock_listen(addr.0.as_ptr(), backlog, &mut out) })?;
        NonNull::new(out).map(|p| Self(Raw(p))).ok_or(ENOMEM)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// `EINVAL` once the listener has been shut down; others pass (`ECONNABORTED`, `ENOMEM` …).
    pub fn accept(&self) -> Result<Incoming> {
        let mut out = core::ptr::null_mut();
        // SAFETY: The listener is alive; the shim sets `out` where it succeeds.
        to_result(unsafe { sys::lio_sock_accept(self.0 .0.as_ptr(), &mut out) })?;
        NonNull::new(out).map(|p| Incoming(Raw(p))).ok_or(ENOMEM)
    }

    /// Ends [`Self::accept`], now and for ever.
    pub fn shutdown(&self) {
        // SAFETY: The socket is alive.
        unsafe { sys::lio_sock_shutdown(self.0 .0.as_ptr()) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: The last use of a socket that is ours.
        unsafe { sys::lio_sock_release(self.0.as_ptr(), false) }
    }
}

impl Raw {
    fn addr(&self, peer: bool) -> Result<Address> {
        let mut a = Address([0; sys::LIO_ADDR_LEN as usize]);
        // SAFETY: The socket is alive, and the array has the size that the shim writes.
        to_result(unsafe { sys::lio_sock_addr(self.0.as_ptr(), peer, a.0.as_mut_ptr()) })?;
        Ok(a)
    }
}

/// A connection that nobody listens to yet.
pub struct Incoming(Raw);

impl Incoming {
    /// The other side's address; an IPv4 one that came by an IPv6 socket is an IPv4 one.
    ///
    /// # Errors
    /// `ENOTCONN` if the connection has gone.
    pub fn peer(&self) -> Result<Address> {
        self.0.addr(true)
    }

    /// Our own address.
    ///
    /// # Errors
    /// As [`Self::peer`].
    pub fn local(&self) -> Result<Address> {
        self.0.addr(false)
    }

    /// Has `waker` woken with [`Waker::RX`] and [`Waker::TX`] from here on.
    pub fn attach(self, waker: Arc<Waker>) -> Socket {
        // SAFETY: The socket is alive and gets its waker once, since `self` is consumed; `Socket` keeps the waker
        // until after the socket is released (the order of its fields).
        unsafe { sys::lio_sock_attach(self.0 .0.as_ptr(), waker.as_ptr()) }
        Socket {
            raw: self.0,
            _waker: waker,
        }
    }
}

/// A TCP connection. Nothing here sleeps for the other side.
pub struct Socket {
    raw: Raw,
    _waker: Arc<Waker>,
}

impl Socket {
    /// Receives into `iov` what has come: how many bytes, 0 if the other side has closed, and whether there may be more
    /// to receive now; if not, [`Waker::RX`] follows when so many have come that they are `need`, with what this call
    /// received. What comes in small pieces wakes nobody for each of them then.
    ///
    /// # Errors
    /// `EAGAIN`: nothing there now, [`Waker::RX`] follows. Others end the connection.
    pub fn recv(&self, iov: &Iov<'_, '_>, need: usize) -> Result<(usize, bool)> {
        let mut more = false;
        // SAFETY: `iov` borrows all that its segments point to, and buffers may be written at any time.
        let n = unsafe {
            sys::lio_sock_recv(
                self.raw.0.as_ptr(),
                iov.as_ptr(),
                iov.count(),
                iov.len,
                need,
                &mut more,
            )
        };
        Ok((count(n)?, more))
    }

    /// Sends from `iov`; returns how many bytes TCP took, which may be less than all: [`Waker::TX`] follows then.
    ///
    /// TCP holds references on the pages instead of copying, if all of them allow it; so the memory must not be used
    /// for anything else before the last reference has gone. `more` says that further bytes follow at once.
    ///
    /// # Errors
    /// `EAGAIN`: no room now. Others end the connection.
    pub fn send(&self, iov: &Iov<'_, '_>, more: bool) -> Result<usize> {
        // SAFETY: `iov` borrows all that its segments point to; pages are spliced only where they are held by
        // references, which TCP may add to.
        let n = unsafe {
            sys::lio_sock_send(
                self.raw.0.as_ptr(),
                iov.as_ptr(),
                iov.count(),
                iov.len,
                iov.splice,
                more,
            )
        };
        count(n)
    }

    /// How far the other side's TCP has acknowledged what was sent: a number that changes when it does, and how many bytes it
    /// has not acknowledged. What it has no room for it does not acknowledge.
    pub fn acked(&self) -> (u32, u32) {
        let mut rest = 0;
        // SAFETY: The socket is alive.
        let n = unsafe { sys::lio_sock_acked(self.raw.0.as_ptr(), &mut rest) };
        (n, rest)
    }

    /// How long ago TCP received data last, in milliseconds.
    pub fn idle_ms(&self) -> u32 {
        // SAFETY: The socket is alive.
        unsafe { sys::lio_sock_idle_ms(self.raw.0.as_ptr()) }
    }

    /// Tells TCP about the connection.
    ///
    /// # Errors
    /// `EINVAL` for what TCP does not allow.
    pub fn set_options(&self, options: &Options) -> Result {
        let o = sys::lio_sock_options {
            dscp: options.dscp,
            keepalive_time: options.keepalive_time,
            keepalive_intvl: options.keepalive_intvl,
            keepalive_probes: options.keepalive_probes,
            user_timeout: options.user_timeout,
        };
        // SAFETY: The socket is alive, and `o` is read during the call.
        to_result(unsafe { sys::lio_sock_set_options(self.raw.0.as_ptr(), &o) })
    }

    /// Nothing more is sent; the other side reads the end of the stream after what TCP has taken.
    pub fn shutdown_send(&self) {
        // SAFETY: The socket is alive.
        unsafe { sys::lio_sock_shutdown_send(self.raw.0.as_ptr()) }
    }

    /// Ends the connection with a reset: what TCP has taken is thrown away, and with it the pages.
    pub fn abort(self) {
        let Socket { raw, _waker } = self;
        let p = raw.0;
        core::mem::forget(raw);
        // SAFETY: The last use of a socket that is ours; the waker is dropped after it.
        unsafe { sys::lio_sock_release(p.as_ptr(), true) }
    }
}

fn count(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| i32::try_from(n).map_or(EIO, Error::from_errno))
}

/// Room for the segments of one call, kept between calls.
pub struct IovSpace(KVec<bindings::bio_vec>);

// SAFETY: Between calls, the vector's contents mean nothing.
unsafe impl Send for IovSpace {}

impl IovSpace {
    /// Room for `segs` segments.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(segs: usize) -> Result<Self> {
        Ok(Self(KVec::with_capacity(segs, GFP_KERNEL)?))
    }

    /// An empty list of segments.
    pub fn begin<'s, 'a>(&'s mut self) -> Iov<'s, 'a> {
        self.0.clear();
        Iov {
            vec: &mut self.0,
            len: 0,
            splice: true,
            _data: PhantomData,
        }
    }
}

/// Segments of memory for one call of the socket layer: `'s` is the list's own room, `'a` the memory.
pub struct Iov<'s, 'a> {
    vec: &'s mut KVec<bindings::bio_vec>,
    len: usize,
    splice: bool,
    _data: PhantomData<&'a Buffer>,
}

impl<'a> Iov<'_, 'a> {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn count(&self) -> u32 {
        // The capacity is a small number.
        self.vec.len() as u32
    }

    fn as_ptr(&self) -> *const bindings::bio_vec {
        self.vec.as_ptr()
    }

    fn add(&mut self, bv: bindings::bio_vec) -> bool {
        let Some(len) = self.len.checked_add(bv.bv_len as usize) else {
            return false;
        };
        if self.vec.push_within_capacity(bv).is_err() {
            return false;
        }
        self.len = len;
        true
    }

    /// Appends `len` bytes at `off` of `page`, which lie in its first 4096 bytes; returns whether they found room.
    pub fn page(&mut self, page: &'a PageRef, off: usize, len: usize) -> bool {
        if len == 0 {
            return true;
        }
        match off.checked_add(len) {
            Some(end) if end <= PAGE_SIZE => {}
            _ => return false,
        }
        self.add(bindings::bio_vec {
            bv_page: page.as_ptr(),
            bv_len: len as u32,
            bv_offset: off as u32,
        })
    }

    /// Appends `len` bytes at `off` of `buffer`, as far as there are so many and as there is room for segments;
    /// returns how many bytes that were.
    pub fn buffer(&mut self, buffer: &'a Buffer, off: usize, len: usize) -> usize {
        let mut skip = off;
        let mut left = len;
        for seg in buffer.segs() {
            if left == 0 {
                break;
            }
            if skip >= seg.len() {
                skip -= seg.len();
                continue;
            }
            let n = (seg.len() - skip).min(left);
            let mut bv = *seg.as_bvec();
            // Both fit: the segment's own numbers are 32 bits wide.
            bv.bv_offset += skip as u32;
            bv.bv_len = n as u32;
            if !self.add(bv) {
                break;
            }
            skip = 0;
            left -= n;
        }
        if left < len && !buffer.is_refcounted() {
            self.splice = false;
        }
        len - left
    }
}
