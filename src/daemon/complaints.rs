//! What a person is told of what the watchdog itself cannot do, and that it can again.
//!
//! What passes at once is on record and no more. What lasts is told once, also over restarts, and
//! its end once it has been well for a while: a sensor that comes and goes is one message.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::SensorStatus;

/// What is bad for so long is told…
const LASTS: Duration = Duration::from_secs(10);
/// …and its end when it has been well for so long.
const CALM: Duration = Duration::from_secs(300);

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Something is bad that was not told of; with what else is.
    Worse(String),
    /// These are well again.
    Better(String),
}

/// See the module. Everything goes by its name in `status`.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Why each is bad that is, and since when.
    bad: BTreeMap<String, (String, Duration)>,
    /// What was told of, and since when it has been well.
    told: BTreeMap<String, Option<Duration>>,
}

impl Complaints {
    /// An earlier run told of these.
    pub(super) fn continuing(told: Vec<String>) -> Self {
        let told = told.into_iter().map(|name| (name, None)).collect();
        Self { told, ..Self::default() }
    }

    /// What was told of and not said to be over.
    pub(super) fn told(&self) -> Vec<String> {
        self.told.keys().cloned().collect()
    }

    /// Whether nothing is bad now.
    pub(super) fn all_is_well(&self) -> bool {
        self.bad.is_empty()
    }

    /// How things are now.
    pub(super) fn hear(&mut self, now: Duration, lines: &[SensorStatus]) {
        let bad = || lines.iter().filter(|line| !line.is_well());
        self.bad.retain(|name, _| bad().any(|line| line.name == *name));
        for line in bad() {
            let (why, _) = self.bad.entry(line.name.clone()).or_insert((String::new(), now));
            why.clone_from(&line.why);
        }
    }

    /// What somebody is to be told of that: it counts as told from now on.
    pub(super) fn news(&mut self, now: Duration) -> Option<News> {
        let over = self.over(now);
        if !over.is_empty() {
            return Some(News::Better(over.join(", ")));
        }
        let lasting = || self.bad.iter().filter(|(_, (_, since))| now >= *since + LASTS);
        if lasting().any(|(name, _)| !self.told.contains_key(name)) {
            let text = lasting().map(|(name, (why, _))| format!("{name}: {why}"));
            let worse = News::Worse(text.collect::<Vec<_>>().join("; "));
            self.told.extend(lasting().map(|(name, _)| (name.clone(), None)));
            return Some(worse);
        }
        None
    }

    /// Forgets what was told of and has been well for long enough.
    fn over(&mut self, now: Duration) -> Vec<String> {
        for (name, well) in &mut self.told {
            match self.bad.contains_key(name) {
                true => *well = None,
                false => *well = well.or(Some(now)),
            }
        }
        let is_over = |well: &Option<Duration>| well.is_some_and(|since| now >= since + CALM);
        let over = self.told.extract_if(.., |_, well| is_over(well));
        over.map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bad: &[&str]) -> Vec<SensorStatus> {
        ["audit", "fanotify"]
            .map(|name| SensorStatus {
                name: name.into(),
                state: if bad.contains(&name) { "degraded" } else { "working" }.into(),
                why: if bad.contains(&name) { "it is blind" } else { "" }.into(),
            })
            .into()
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn heard(complaints: &mut Complaints, now: Duration, lines: &[SensorStatus]) -> Option<News> {
        complaints.hear(now, lines);
        complaints.news(now)
    }

    fn worse(text: &str) -> Option<News> {
        Some(News::Worse(text.to_owned()))
    }

    #[test]
    fn what_passes_is_not_told_and_what_lasts_is_told_once_and_its_end() {
        let mut complaints = Complaints::default();
        for at in [0, 9] {
            assert_eq!(heard(&mut complaints, second(at), &lines(&["audit"])), None);
        }
        assert_eq!(heard(&mut complaints, second(10), &lines(&[])), None);
        assert_eq!(heard(&mut complaints, second(20), &lines(&["audit"])), None);
        let told = heard(&mut complaints, second(30), &lines(&["audit"]));
        assert_eq!(told, worse("audit: it is blind"));
        assert_eq!(heard(&mut complaints, second(600), &lines(&["audit"])), None);
        assert_eq!(heard(&mut complaints, second(601), &lines(&[])), None);
        assert_eq!(heard(&mut complaints, second(900), &lines(&[])), None);
        let over = heard(&mut complaints, second(901), &lines(&[]));
        assert_eq!(over, Some(News::Better("audit".to_owned())));
        assert_eq!(heard(&mut complaints, second(2000), &lines(&[])), None);
    }

    #[test]
    fn what_comes_and_goes_is_one_message_and_what_comes_to_it_another() {
        let mut complaints = Complaints::default();
        let mut told = Vec::new();
        for at in 0..3600 {
            let bad: &[&str] = if at % 60 < 30 { &["audit"] } else { &[] };
            told.extend(heard(&mut complaints, second(at), &lines(bad)));
        }
        assert_eq!(told, [News::Worse("audit: it is blind".to_owned())]);
        assert_eq!(heard(&mut complaints, second(3600), &lines(&["audit", "fanotify"])), None);
        let both = heard(&mut complaints, second(3610), &lines(&["audit", "fanotify"]));
        assert_eq!(both, worse("audit: it is blind; fanotify: it is blind"));
    }

    #[test]
    fn what_an_earlier_run_told_is_not_told_again_but_its_end_is() {
        let mut complaints = Complaints::continuing(vec!["audit".to_owned()]);
        assert_eq!(heard(&mut complaints, second(0), &lines(&["audit"])), None);
        assert_eq!(heard(&mut complaints, second(60), &lines(&["audit"])), None);
        assert_eq!(complaints.told(), ["audit"]);
        assert_eq!(heard(&mut complaints, second(61), &lines(&[])), None);
        let over = heard(&mut complaints, second(361), &lines(&[]));
        assert_eq!(over, Some(News::Better("audit".to_owned())));
        assert!(complaints.told().is_empty());
    }
}
