//! When a server that is busy wants to be asked again: `Retry-After`, in seconds or as a date.
//!
//! A date is of the server's clock, which may be another than this one's; so it is counted from the date of the answer, if
//! that has one.

use std::time::{Duration, SystemTime};
use ureq::http::HeaderMap;

/// Nobody waits for longer, whatever is said.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait, if the answer says so and can be understood; at most a day.
pub fn read(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text("retry-after")?;
    if !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time, too.
        return Some(after.parse().map_or(MOST, Duration::from_secs).min(MOST));
    }
    let date = httpdate::parse_http_date(after).ok()?;
    let from = text("date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    // A date that is over says: at once.
    Some(date.duration_since(from).unwrap_or_default().min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)]) -> Option<u64> {
        // 6 November 1994, 08:49:37.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        read(&headers.collect(), now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_the_three_forms_of_dates_are_understood() {
        assert_eq!(wait(&[("retry-after", " 7 ")]), Some(7));
        for date in ["Sun, 06 Nov 1994 08:50:17 GMT", "Sunday, 06-Nov-94 08:50:17 GMT", "Sun Nov  6 08:50:17 1994"] {
            assert_eq!(wait(&[("retry-after", date)]), Some(40), "{date}");
        }
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")]), Some(0));
    }

    #[test]
    fn dates_are_of_the_clock_of_the_server() {
        let (date, after) = ("Mon, 01 Jan 2035 00:00:00 GMT", "Mon, 01 Jan 2035 00:00:12 GMT");
        assert_eq!(wait(&[("date", date), ("retry-after", after)]), Some(12));
        assert_eq!(wait(&[("date", "tomorrow"), ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT")]), Some(1));
    }

    #[test]
    fn nobody_waits_for_more_than_a_day_or_for_nonsense() {
        let day = MOST.as_secs();
        for long in ["86401", "18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(wait(&[("retry-after", long)]), Some(day), "{long}");
        }
        for nonsense in ["", "-1", "1.5", "+3", "soon", "Sun, 99 Nov 1994 08:50:17 GMT", "Sun, 06 Nov 1994"] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(wait(&[]), None);
    }
}
