// SPDX-License-Identifier: GPL-2.0

//! Operations of the kernel that end later, in another context.

use crate::buffer::Buffer;

/// Whom an operation is for: it holds the data while the operation lasts, and takes the result.
///
/// The operation owns it until it calls [`Transfer::done`]; nobody moves it or touches it meanwhile.
pub trait Transfer: Send + 'static {
    /// The data to write, or the memory to read into.
    fn buffer(&self) -> &Buffer;

    /// The protection information of the blocks, as [`Self::buffer`], where it is to go with them.
    fn protection(&self) -> Option<&Buffer> {
        None
    }

    /// The operation ended: the bytes of the buffer that were read or written. Comes in any context, interrupts among
    /// them, and possibly before the function that began the operation returns.
    fn done(self, result: kernel::error::Result<usize>);

    /// The operation would have had to wait before it could begin, and was not to: it is to be begun again by somebody who may.
    /// `in_part`: some of it may have been done. Any context, as [`Self::done`].
    fn again(self, in_part: bool)
    where
        Self: Sized,
    {
        let _ = in_part;
        self.done(Err(kernel::error::code::EAGAIN));
    }
}
