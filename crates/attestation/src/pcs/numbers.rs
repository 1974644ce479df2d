//! Which TCB evaluation data numbers are current, by Intel's list.
//!
//! Intel keeps several sets of TCB info and QE identity current at once: the set of each TCB recovery of about a year. The list of
//! their numbers is signed, like the sets; here it is only read, to tell that there is a newer set than the one at
//! hand. Nothing is accepted on its word. Format: Intel "PCS API v4", "TCB Evaluation Data Numbers Model V1".

use jiff::Timestamp;
use serde::Deserialize;

use super::{Client, Failure};
use crate::Error;

const WHAT: &str = "list of TCB evaluation data numbers";
/// No list names more sets.
const MAX_NUMBERS: usize = 1000;

/// One set that is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct EvaluationNumber {
    /// Its number; every TCB recovery has a higher one.
    #[serde(rename = "tcbEvaluationDataNumber")]
    pub number: u32,
    /// When the recovery was announced.
    #[serde(rename = "tcbRecoveryEventDate")]
    pub recovery_event: Timestamp,
    /// The date of its newest TCB level.
    #[serde(rename = "tcbDate")]
    pub tcb_date: Timestamp,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "tcbEvaluationDataNumbers")]
    list: List,
}

#[derive(Deserialize)]
struct List {
    id: String,
    #[serde(rename = "tcbEvalNumbers")]
    numbers: Vec<EvaluationNumber>,
}

impl Client {
    /// The sets that are current for SGX, by the word of the server. Asked for once, and not kept.
    ///
    /// # Errors
    /// [`Error::Fetch`] where the server does not say (few PCCSs do), [`Error::Malformed`] where it says something else.
    pub fn evaluation_numbers(&self) -> Result<Vec<EvaluationNumber>, Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/tcbevaluationdatanumbers", url.path()));
        let (body, _) = self.get(WHAT, &url).map_err(|failure| match failure {
            Failure::OutOfReach(error) | Failure::Refused(error) => error,
        })?;
        read(&body)
    }
}

fn read(json: &[u8]) -> Result<Vec<EvaluationNumber>, Error> {
    let wrong = |found: String| Error::malformed(WHAT, "Intel's list for SGX", found);
    let Signed { list } = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    match list.id.as_str() {
        "SGX" if list.numbers.len() <= MAX_NUMBERS => Ok(list.numbers),
        "SGX" => Err(wrong(format!("{} numbers", list.numbers.len()))),
        _ => Err(wrong("one for something else".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As Intel's service answered, shortened.
    const LIST: &str = r#"{"tcbEvaluationDataNumbers":{"id":"SGX","version":1,"issueDate":"2025-06-03T23:58:51Z",
        "nextUpdate":"2025-07-03T23:58:51Z","tcbEvalNumbers":[{"tcbEvaluationDataNumber":19,"tcbRecoveryEventDate":
        "2025-05-13T00:00:00Z","tcbDate":"2025-05-14T00:00:00Z"},{"tcbEvaluationDataNumber":18,"tcbRecoveryEventDate":
        "2024-11-12T00:00:00Z","tcbDate":"2024-11-13T00:00:00Z"}]},"signature":"66"}"#;

    #[test]
    fn intels_list_is_read_and_others_are_not() {
        let numbers = read(LIST.as_bytes()).unwrap();
        assert_eq!(numbers.iter().map(|set| set.number).collect::<Vec<_>>(), [19, 18]);
        assert_eq!(numbers[0].tcb_date.to_string(), "2025-05-14T00:00:00Z");
        for bad in [LIST.replace("SGX", "TDX"), LIST.replace("19", "-1"), String::new(), "{}".to_owned()] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
