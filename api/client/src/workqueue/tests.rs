use super::*;

#[tokio::test]
async fn an_item_added_while_in_work_comes_back_once() {
    let queue = Workqueue::new();
    queue.add("a");
    queue.add("a");
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.get().await, "a");
    queue.add("a");
    queue.add("a");
    assert!(queue.is_empty(), "never two workers on one item");
    queue.done(&"a");
    assert_eq!(queue.get().await, "a");
    queue.done(&"a");
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_from_5_ms_to_1000_s() {
    let queue = Workqueue::new();
    for expected in [5, 10, 20, 40] {
        let start = Instant::now();
        queue.add_rate_limited("a");
        queue.get().await;
        queue.done(&"a");
        assert_eq!(start.elapsed().as_millis(), expected);
    }
    for _ in 0..40 {
        queue.add_rate_limited("b");
    }
    queue.add_rate_limited("a");
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_several_delays_counts() {
    let queue = Workqueue::new();
    let start = Instant::now();
    queue.add_after("a", Duration::from_secs(9));
    queue.add_after("a", Duration::from_secs(1));
    queue.add_after("a", Duration::from_secs(5));
    queue.get().await;
    queue.done(&"a");
    assert_eq!(start.elapsed().as_secs(), 1);
    let again = tokio::time::timeout(Duration::from_secs(60), queue.get()).await;
    assert!(again.is_err(), "one wake-up for one item");
}

#[tokio::test(start_paused = true)]
async fn run_works_in_parallel_and_retries() {
    let queue = Workqueue::new();
    let stop = CancellationToken::new();
    for item in 0..10 {
        queue.add(item);
    }
    let start = Instant::now();
    let tries = Mutex::new(HashMap::new());
    queue
        .run(10, &stop, |item| {
            let (tries, stop) = (&tries, &stop);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let total = {
                    let mut tries = lock(tries);
                    *tries.entry(item).or_insert(0) += 1;
                    tries.values().sum::<i32>()
                };
                if total == 11 {
                    stop.cancel();
                }
                if item == 3 && total <= 10 { Outcome::Retry } else { Outcome::Done }
            }
        })
        .await;
    assert_eq!(start.elapsed().as_secs(), 2, "ten at once, then the one that failed");
    assert_eq!(lock(&tries)[&3], 2);
}
