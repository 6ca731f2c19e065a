//! Every word that a visitor reads, once per language: a language that lacks a
//! sentence does not compile. The rounding of numbers and durations stands
//! here too; `waiting.js` repeats it for what arrives later.

use std::sync::LazyLock;

use minijinja::{Value, context};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Language, NoticeKind};

/// A heading and the sentence below it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Saying(pub(super) &'static str, pub(super) &'static str);

/// Texts of one language. `{n}`, `{a}`, `{b}`, `{p}`, `{w}` are filled in.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) lang: &'static str,
    pub(super) place: &'static str,
    /// Before a place that is not exact.
    pub(super) about: &'static str,
    pub(super) progress: &'static str,
    pub(super) wait: &'static str,
    pub(super) behind: &'static str,
    pub(super) updated: &'static str,
    pub(super) clock: &'static str,
    /// Added to UTC in the time shown where no script knows the visitor's zone.
    pub(super) clock_offset_seconds: u64,
    pub(super) message: &'static str,
    pub(super) cookies: &'static str,
    pub(super) go: &'static str,
    pub(super) again: &'static str,
    pub(super) keep: &'static str,
    pub(super) noscript: &'static str,
    pub(super) retry: &'static str,
    pub(super) form_not_sent: &'static str,
    pub(super) form_not_sent_text: &'static str,
    /// What the script needs as well.
    pub(super) live: LiveTexts,
    pub(super) session_busy: Saying,
    pub(super) origin_unreachable: Saying,
    pub(super) origin_slow: Saying,
    pub(super) origin_busy: Saying,
    pub(super) unknown_host: Saying,
    pub(super) unknown_key: Saying,
}

/// Texts that change while the page is open; they travel in its data.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LiveTexts {
    pub(super) heading: &'static str,
    pub(super) lead: &'static str,
    pub(super) turn: &'static str,
    pub(super) called: &'static str,
    pub(super) entering: &'static str,
    pub(super) degraded: &'static str,
    pub(super) shared: &'static str,
    pub(super) reconnecting: &'static str,
    pub(super) unknown: &'static str,
    pub(super) people: &'static str,
    pub(super) spoken: &'static str,
    pub(super) moment: &'static str,
    pub(super) up_to: &'static str,
    pub(super) roughly: &'static str,
    pub(super) between: &'static str,
    pub(super) spanning: &'static str,
    pub(super) over: &'static str,
    pub(super) minutes: &'static str,
    pub(super) hours: &'static str,
    pub(super) blocked: Blocked,
}

/// Why somebody is turned away; serialised under the API's reason codes.
#[derive(Debug)]
pub(super) struct Blocked {
    pub(super) full: Saying,
    pub(super) closed: Saying,
    pub(super) not_begun: Saying,
    pub(super) ended: Saying,
    pub(super) rate_limited: Saying,
    pub(super) bot: Saying,
}

impl Serialize for Blocked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("FULL", &self.full)?;
        map.serialize_entry("CLOSED", &self.closed)?;
        map.serialize_entry("NOT_BEGUN", &self.not_begun)?;
        map.serialize_entry("ENDED", &self.ended)?;
        map.serialize_entry("RATE_LIMITED", &self.rate_limited)?;
        map.serialize_entry("BOT", &self.bot)?;
        map.end()
    }
}

impl Texts {
    /// The texts of `language`.
    pub(super) const fn of(language: Language) -> &'static Self {
        match language {
            Language::Korean => &KOREAN,
            Language::English => &ENGLISH,
        }
    }

    /// Those that templates name as `t.…`; made once per language.
    pub(super) fn for_templates(language: Language) -> Value {
        static KOREAN_VALUE: LazyLock<Value> = LazyLock::new(|| KOREAN.value());
        static ENGLISH_VALUE: LazyLock<Value> = LazyLock::new(|| ENGLISH.value());
        match language {
            Language::Korean => KOREAN_VALUE.clone(),
            Language::English => ENGLISH_VALUE.clone(),
        }
    }

    fn value(&'static self) -> Value {
        context! {
            lang => self.lang,
            place => self.place,
            about => self.about,
            progress => self.progress,
            wait => self.wait,
            behind => self.behind,
            updated => self.updated,
            message => self.message,
            cookies => self.cookies,
            go => self.go,
            again => self.again,
            keep => self.keep,
            form_not_sent => self.form_not_sent,
            form_not_sent_text => self.form_not_sent_text,
        }
    }

    /// The heading and sentence of a notice.
    pub(super) const fn notice(&self, kind: NoticeKind) -> Saying {
        match kind {
            NoticeKind::LineFull => self.live.blocked.full,
            NoticeKind::Closed => self.live.blocked.closed,
            NoticeKind::NotBegun => self.live.blocked.not_begun,
            NoticeKind::Ended => self.live.blocked.ended,
            NoticeKind::RateLimited => self.live.blocked.rate_limited,
            NoticeKind::Bot => self.live.blocked.bot,
            NoticeKind::SessionBusy => self.session_busy,
            NoticeKind::OriginUnreachable => self.origin_unreachable,
            NoticeKind::OriginSlow => self.origin_slow,
            NoticeKind::OriginBusy => self.origin_busy,
            NoticeKind::UnknownHost => self.unknown_host,
            NoticeKind::UnknownKey => self.unknown_key,
        }
    }

    /// The time of day, for readers without a script: `05:03:22 UTC`.
    pub(super) fn clock_time(&self, unix_ms: u64) -> String {
        let second = (unix_ms / 1000 % 86_400 + self.clock_offset_seconds) % 86_400;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let time = format!("{hour:02}:{minute:02}:{:02}", second % 60);
        self.clock.replace("{n}", &time)
    }
}

impl LiveTexts {
    /// Seconds from `low` to `high` as an honest range: the ends are rounded
    /// outwards, in steps of 1 min up to 20, of 5 up to 90, of 30 beyond.
    pub(super) fn range(&self, low: Option<u64>, high: Option<u64>) -> String {
        let (Some(low), Some(high)) = (low, high) else {
            return self.unknown.to_owned();
        };
        if high < 60 {
            return self.moment.to_owned();
        }
        let step = match high {
            0..=1200 => 1,
            1201..=5400 => 5,
            _ => 30,
        };
        let from = low.min(high) / (60 * step) * step;
        let to = high.div_ceil(60 * step) * step;
        if to > DAY_MINUTES && from == 0 {
            return self.unknown.to_owned();
        }
        if to > DAY_MINUTES {
            let span = self.span(from.min(DAY_MINUTES));
            return self.over.replace("{a}", &span);
        }
        if from == 0 {
            return self.up_to.replace("{b}", &self.span(to));
        }
        if from == to {
            return self.roughly.replace("{a}", &self.span(to));
        }
        if to < 60 {
            let both = self.between.replace("{a}", &from.to_string());
            let both = both.replace("{b}", &to.to_string());
            return self.minutes.replace("{n}", &both);
        }
        let both = self.spanning.replace("{a}", &self.span(from));
        both.replace("{b}", &self.span(to))
    }

    fn span(&self, minutes: u64) -> String {
        let hours = self.hours.replace("{n}", &(minutes / 60).to_string());
        let rest = self.minutes.replace("{n}", &(minutes % 60).to_string());
        match (minutes / 60, minutes % 60) {
            (0, _) => rest,
            (_, 0) => hours,
            _ => format!("{hours} {rest}"),
        }
    }
}

/// A longer wait is only said to be longer.
const DAY_MINUTES: u64 = 1440;

/// A count with its thousands apart. One that is about right is rounded up to
/// three digits, which keeps a position from growing when it becomes exact.
pub(super) fn people(count: u64, about: bool) -> String {
    let digits = count.checked_ilog10().unwrap_or(0);
    let step = if about {
        10_u64.pow(digits.saturating_sub(2))
    } else {
        1
    };
    let plain = count.div_ceil(step).saturating_mul(step).to_string();
    let mut grouped = String::with_capacity(plain.len() * 4 / 3);
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

static ENGLISH: Texts = Texts {
    lang: "en",
    place: "Your place in line",
    about: "about",
    progress: "Progress through the line",
    wait: "Expected wait",
    behind: "Behind you",
    updated: "Last update",
    clock: "{n} UTC",
    clock_offset_seconds: 0,
    message: "Notice",
    cookies: "Your browser refuses cookies. Without them you cannot be let in; please allow them for this site.",
    go: "Enter",
    again: "Try again",
    keep: "Keep this page open. Reloading it, or opening it in another tab, does not cost you your place.",
    noscript: "This page refreshes itself every {n} seconds.",
    retry: "This page tries again by itself in about {n} seconds.",
    form_not_sent: "Your form was not sent",
    form_not_sent_text: "What you filled in has not reached the site. When it is your turn you come back to the page and can send it again.",
    live: LiveTexts {
        heading: "You are in line",
        lead: "Many people are here at the moment, so everyone enters in order. You will be let in automatically when it is your turn.",
        turn: "It is your turn",
        called: "A place is just being freed for you. This takes a few seconds.",
        entering: "You are being let in now.",
        degraded: "We keep your place. Letting people in is paused for a moment and resumes by itself.",
        shared: "Many visitors from your network are inside. You get in as one of them leaves.",
        reconnecting: "The connection is interrupted. Your place is kept; trying again.",
        unknown: "Not known yet",
        people: "{n}",
        spoken: "Your place in line: {p}. Expected wait: {w}.",
        moment: "Under a minute",
        up_to: "Up to {b}",
        roughly: "About {a}",
        between: "{a}–{b}",
        spanning: "{a} – {b}",
        over: "More than {a}",
        minutes: "{n} min",
        hours: "{n} h",
        blocked: Blocked {
            full: Saying(
                "The line is full",
                "So many people are waiting that no more can join at the moment. Please come back a little later.",
            ),
            closed: Saying(
                "Closed at the moment",
                "Nobody is being let in right now. If you already have a place in line, it is kept.",
            ),
            not_begun: Saying("Not open yet", "It has not begun. Please come back later."),
            ended: Saying(
                "This has ended",
                "It is over, and nobody is let in any more.",
            ),
            rate_limited: Saying(
                "One moment, please",
                "Very many requests are coming from your network at once.",
            ),
            bot: Saying(
                "Not let in",
                "This looks like a program, not a person. Please use an ordinary browser, or ask the operator of the site.",
            ),
        },
    },
    session_busy: Saying(
        "Too many requests at once",
        "Your browser, or a copy of its cookies, asks for more than one visitor may. You stay inside; close other tabs and programs that load this site.",
    ),
    origin_unreachable: Saying(
        "The site cannot be reached",
        "The server behind this address does not answer. The fault is not yours; please try again shortly.",
    ),
    origin_slow: Saying(
        "The site takes too long",
        "The server behind this address did not answer in time. If you were sending or paying for something, check whether it went through before you repeat it.",
    ),
    origin_busy: Saying(
        "The site is very busy",
        "The server behind this address has too much to do at the moment, and your request was not passed on. Please try again shortly.",
    ),
    unknown_host: Saying(
        "No site at this address",
        "This server does not serve the name you asked for. Please check the address.",
    ),
    unknown_key: Saying(
        "One moment, please",
        "Your place could not be read just now. It is kept; trying again helps.",
    ),
};

static KOREAN: Texts = Texts {
    lang: "ko",
    place: "나의 대기 순서",
    about: "약",
    progress: "대기 진행률",
    wait: "예상 대기 시간",
    behind: "내 뒤 대기 인원",
    updated: "마지막 갱신",
    clock: "{n} (한국 시각)",
    clock_offset_seconds: 9 * 3600,
    message: "안내",
    cookies: "브라우저가 쿠키를 차단하고 있어 입장할 수 없습니다. 이 사이트의 쿠키를 허용해 주세요.",
    go: "입장하기",
    again: "다시 시도",
    keep: "이 화면을 그대로 두세요. 새로고침하거나 다른 탭에서 열어도 순서는 그대로 유지됩니다.",
    noscript: "이 화면은 {n}초마다 자동으로 새로고침됩니다.",
    retry: "약 {n}초 뒤에 자동으로 다시 시도합니다.",
    form_not_sent: "입력하신 내용이 전송되지 않았습니다",
    form_not_sent_text: "작성하신 내용은 아직 사이트에 전달되지 않았습니다. 차례가 되면 해당 페이지로 돌아가며, 그때 다시 보내실 수 있습니다.",
    live: LiveTexts {
        heading: "접속 대기 중입니다",
        lead: "접속자가 많아 순서대로 입장하고 있습니다. 차례가 되면 자동으로 입장합니다.",
        turn: "입장하실 차례입니다",
        called: "자리를 준비하고 있습니다. 잠시만 기다려 주세요.",
        entering: "지금 입장합니다.",
        degraded: "순서는 그대로 유지됩니다. 입장이 잠시 멈춰 있으며, 자동으로 다시 시작합니다.",
        shared: "같은 네트워크에서 많은 분이 이용 중입니다. 한 분이 나가시면 입장합니다.",
        reconnecting: "연결이 잠시 끊겼습니다. 순서는 그대로 유지되며, 다시 연결하고 있습니다.",
        unknown: "확인 중",
        people: "{n}명",
        spoken: "나의 대기 순서 {p}. 예상 대기 시간 {w}.",
        moment: "1분 이내",
        up_to: "최대 {b}",
        roughly: "약 {a}",
        between: "{a}~{b}",
        spanning: "{a} ~ {b}",
        over: "{a} 이상",
        minutes: "{n}분",
        hours: "{n}시간",
        blocked: Blocked {
            full: Saying(
                "대기 인원이 가득 찼습니다",
                "지금은 대기열에 더 들어올 수 없습니다. 잠시 후 다시 방문해 주세요.",
            ),
            closed: Saying(
                "지금은 입장할 수 없습니다",
                "현재 입장이 닫혀 있습니다. 이미 받으신 대기 순서는 그대로 유지됩니다.",
            ),
            not_begun: Saying(
                "아직 시작 전입니다",
                "아직 열리지 않았습니다. 시작 시간에 다시 방문해 주세요.",
            ),
            ended: Saying("종료되었습니다", "이미 끝나 더 이상 입장할 수 없습니다."),
            rate_limited: Saying(
                "잠시만 기다려 주세요",
                "사용 중인 네트워크에서 요청이 한꺼번에 많이 들어왔습니다.",
            ),
            bot: Saying(
                "입장할 수 없습니다",
                "프로그램의 접속으로 보입니다. 일반 브라우저를 쓰시거나 운영자에게 문의해 주세요.",
            ),
        },
    },
    session_busy: Saying(
        "요청이 너무 많습니다",
        "이 브라우저(또는 복사된 쿠키)의 요청이 한 사람에게 허용된 양을 넘었습니다. 입장 상태는 유지됩니다. 이 사이트를 불러오는 다른 탭이나 프로그램을 닫아 주세요.",
    ),
    origin_unreachable: Saying(
        "사이트에 연결할 수 없습니다",
        "서버가 응답하지 않습니다. 이용자님의 문제가 아니니 잠시 후 다시 시도해 주세요.",
    ),
    origin_slow: Saying(
        "응답이 늦어지고 있습니다",
        "서버가 제시간에 응답하지 않았습니다. 전송이나 결제 중이었다면 처리되었는지 먼저 확인한 뒤 다시 시도해 주세요.",
    ),
    origin_busy: Saying(
        "지금 이용자가 매우 많습니다",
        "서버가 처리 중인 요청이 많아 요청이 전달되지 않았습니다. 잠시 후 다시 시도해 주세요.",
    ),
    unknown_host: Saying(
        "이 주소에는 사이트가 없습니다",
        "요청하신 이름을 이 서버에서 제공하지 않습니다. 주소를 확인해 주세요.",
    ),
    unknown_key: Saying(
        "잠시만 기다려 주세요",
        "대기 순서를 지금 확인하지 못했습니다. 순서는 그대로 유지되니 다시 시도해 주세요.",
    ),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_wait_is_a_range_rounded_outwards() {
        let table = [
            (Some(5), Some(50), "Under a minute", "1분 이내"),
            (Some(0), Some(60), "Up to 1 min", "최대 1분"),
            (Some(10), Some(61), "Up to 2 min", "최대 2분"),
            (Some(60), Some(60), "About 1 min", "약 1분"),
            (Some(310), Some(590), "5–10 min", "5~10분"),
            (Some(1240), Some(1810), "20–35 min", "20~35분"),
            (
                Some(2500),
                Some(4000),
                "40 min – 1 h 10 min",
                "40분 ~ 1시간 10분",
            ),
            (
                Some(5400),
                Some(8900),
                "1 h 30 min – 2 h 30 min",
                "1시간 30분 ~ 2시간 30분",
            ),
            (Some(7200), Some(7200), "About 2 h", "약 2시간"),
            (
                Some(50_000),
                Some(90_000),
                "More than 13 h 30 min",
                "13시간 30분 이상",
            ),
            (Some(0), Some(u64::MAX), "Not known yet", "확인 중"),
            (
                Some(u64::MAX),
                Some(u64::MAX),
                "More than 24 h",
                "24시간 이상",
            ),
            (Some(900), Some(300), "About 5 min", "약 5분"),
            (None, Some(300), "Not known yet", "확인 중"),
            (Some(300), None, "Not known yet", "확인 중"),
        ];
        for (low, high, english, korean) in table {
            assert_eq!(ENGLISH.live.range(low, high), english, "{low:?} {high:?}");
            assert_eq!(KOREAN.live.range(low, high), korean, "{low:?} {high:?}");
        }
    }

    #[test]
    fn counts_are_grouped_and_approximate_ones_rounded_up() {
        let exact = [0, 7, 999, 1000, 12_345, 1_000_000].map(|count| people(count, false));
        assert_eq!(exact, ["0", "7", "999", "1,000", "12,345", "1,000,000"]);
        let about = [0, 999, 1001, 12_345, 999_999].map(|count| people(count, true));
        assert_eq!(about, ["0", "999", "1,010", "12,400", "1,000,000"]);
        assert!(people(u64::MAX, true).starts_with("18,4"));
    }

    #[test]
    fn an_approximate_position_never_reads_lower_than_the_exact_one() {
        for position in (0..200_000_u64).step_by(37) {
            let read: u64 = people(position, true).replace(',', "").parse().unwrap();
            assert!(read >= position, "{position} reads {read}");
        }
    }

    #[test]
    fn the_time_of_day_is_told_in_utc_and_in_korea() {
        let unix_ms = 1_764_000_000_123;
        assert_eq!(ENGLISH.clock_time(unix_ms), "16:00:00 UTC");
        assert_eq!(KOREAN.clock_time(unix_ms), "01:00:00 (한국 시각)");
        assert!(KOREAN.clock_time(u64::MAX).ends_with("(한국 시각)"));
    }

    #[test]
    fn both_languages_fill_the_same_holes() {
        for texts in [&KOREAN, &ENGLISH] {
            for text in [texts.noscript, texts.retry, texts.clock] {
                assert_eq!(text.matches("{n}").count(), 1, "{text}");
            }
        }
        let live = |texts: &Texts| {
            let text = serde_json::to_string(&texts.live).unwrap();
            ["{n}", "{a}", "{b}", "{p}", "{w}"].map(|hole| text.matches(hole).count())
        };
        assert_eq!(live(&ENGLISH), live(&KOREAN));
    }
}
