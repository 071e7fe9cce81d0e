//! Few rules at once make much, however many requests ask for it.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Rules that make much at once, in the whole process.
const PLACES: usize = 2;

static FREE: Mutex<usize> = Mutex::new(PLACES);
static FREED: Condvar = Condvar::new();

/// A place, until it is dropped.
pub struct Place(());

impl Place {
    /// Waits for a place; none is had by the end.
    pub fn until(end: Instant) -> Option<Self> {
        let mut free = FREE.lock();
        let waited = FREED.wait_while_until(&mut free, |free| *free == 0, end);
        if waited.timed_out() && *free == 0 {
            return None;
        }
        *free -= 1;
        Some(Self(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.lock() += 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_place_is_had_when_another_is_left() {
        let soon = || Instant::now() + Duration::from_secs(60);
        let places: Vec<_> = std::iter::repeat_with(|| Place::until(soon())).take(PLACES).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::until(Instant::now()).is_none());
        let waiting = std::thread::spawn(move || Place::until(soon()).is_some());
        drop(places);
        assert!(waiting.join().expect("a thread"));
    }
}
