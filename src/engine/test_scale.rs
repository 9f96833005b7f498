//! How much the tests do. Miri interprets them, which takes some thousand times as long: there they do less of the same.

/// What a compiled test takes, or an interpreted one.
pub(crate) const fn scaled<T: Copy>(compiled: T, interpreted: T) -> T {
    if cfg!(miri) {
        interpreted
    } else {
        compiled
    }
}
