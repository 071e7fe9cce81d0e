//! How much the rules of one object may cost.
//!
//! Upstream counts the cost of every operation. Here each step of a comprehension counts, as those are the only loops of the language, and time ends what steps
//! do not measure; functions that compare all with all refuse long lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, ExecutionError, Value};

/// As cel-go words it.
pub const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";

/// The functions that the compiler of rules inserts.
pub const TICK: &str = "@tick";
pub const SHORT: &str = "@short";

/// Steps of loops per object; upstream's budget for an object is ten million units.
const STEPS_MAX: i64 = 1_000_000;
const TIME_MAX: Duration = Duration::from_secs(2);
/// Reading the clock costs more than a step.
const STEPS_PER_LOOK: i64 = 16;
/// For functions whose cost is the square of their input.
const SHORT_MAX: usize = 2_000;

/// What is left, shared by all rules of one object.
#[derive(Clone)]
pub struct Budget(Arc<Left>);

struct Left {
    steps: AtomicI64,
    ends: Instant,
}

impl Budget {
    pub fn new() -> Self {
        Self::of(STEPS_MAX, TIME_MAX)
    }

    pub fn of(steps: i64, time: Duration) -> Self {
        Self(Arc::new(Left { steps: AtomicI64::new(steps), ends: Instant::now() + time }))
    }

    pub fn is_spent(&self) -> bool {
        self.0.steps.load(Ordering::Relaxed) <= 0
    }

    /// Takes a step; false when none is left.
    fn tick(&self) -> bool {
        let left = self.0.steps.fetch_sub(1, Ordering::Relaxed);
        if left % STEPS_PER_LOOK == 0 && Instant::now() >= self.0.ends {
            self.0.steps.store(0, Ordering::Relaxed);
        }
        left > 1
    }

    fn exhaust(&self) -> ExecutionError {
        self.0.steps.store(0, Ordering::Relaxed);
        ExecutionError::function_error(TICK, EXCEEDED)
    }

    /// All functions that rules may call.
    pub fn context(&self) -> Context<'static> {
        let mut context = Context::default().with_all();
        // Types are not checked beforehand, so every value is dynamic already.
        context.add_function("dyn", |value: Value| Ok::<Value, ExecutionError>(value));
        let ticking = self.clone();
        context.add_function(TICK, move || match ticking.tick() {
            true => Ok(true),
            false => Err(ticking.exhaust()),
        });
        let measuring = self.clone();
        context.add_function(SHORT, move |value: Value| match &value {
            Value::List(list) if list.len() > SHORT_MAX => Err(measuring.exhaust()),
            _ => Ok(value),
        });
        context
    }
}
