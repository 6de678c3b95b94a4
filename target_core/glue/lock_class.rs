// SPDX-License-Identifier: GPL-2.0

//! Lock classes of generic code, for lockdep.

/// The name and class of a lock that a generic function makes. Each module that uses the function has a copy of it, and
/// would have its own copy of the name; but lockdep wants one class to have one name, and looks at where that lies.
#[macro_export]
macro_rules! one_class {
    ($name:literal) => {{
        #[inline(never)]
        fn class() -> (
            &'static kernel::str::CStr,
            core::pin::Pin<&'static kernel::sync::LockClassKey>,
        ) {
            (kernel::c_str!($name), kernel::sync::static_lock_class!())
        }
        class()
    }};
}
pub(crate) use one_class;
