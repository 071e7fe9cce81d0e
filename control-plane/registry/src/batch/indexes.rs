//! Indexes of an indexed job as text: `1,3-5,7` (`validateIndexesFormat`).

/// How many indexes the text names; they rise, and are less than `completions`.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last): (i64, Option<i64>) = (0, None);
    for interval in text.split(',') {
        let (first, end) = parse(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that both texts name; what cannot be read is reported elsewhere.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let parsed = |text: &str| -> Vec<(i64, i64)> {
        let intervals = text.split(',').filter(|interval| !interval.is_empty());
        intervals.filter_map(|interval| parse(interval, completions).ok()).collect()
    };
    let (one, other) = (parsed(one), parsed(other));
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| a.0 <= b.1 && b.0 <= a.1).map(|(a, b)| a.0.max(b.0)).min()
}

/// `parseIndexInterval`.
fn parse(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let number =
        |text: &str| text.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: \"{text}\""));
    let below = |index: i64| match index {
        index if index < completions => Ok(index),
        index => Err(format!("too large index: \"{index}\"")),
    };
    let parts: Vec<&str> = interval.split('-').collect();
    match parts[..] {
        [single] => {
            let index = below(number(single)?)?;
            Ok((index, index))
        }
        [first, last] => {
            let (first, last) = (number(first)?, number(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, below(last)?))
        }
        _ => Err(format!(
            "the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}
