//! What the waiting page promises to eyes, ears and hands: it fits a small
//! screen, can be read by day and by night, keeps still for who wants that,
//! leaves the focus alone, speaks when something has changed, and is light.

use serde_json::{Value, json};

use super::driver::{Browser, ENGLISH, Manner};
use super::{Shop, complete};
use crate::support::until;

const KOREAN: Manner = Manner {
    languages: "ko-KR,ko",
    ..ENGLISH
};

/// A word that cannot be broken at a space.
const MESSAGE: &str = "message = \"https://tickets.example/notices/a-long-word-without-any-space\"";

/// A browser that stands in line.
async fn in_line(shop: &Shop, manner: Manner) -> Browser {
    let browser = Browser::open(manner).await;
    browser.go(&shop.url("/tickets")).await;
    until("the place", async || browser.text("place").await).await;
    browser
}

/// A feature of the screen or of its owner, as CSS asks for it.
async fn prefer(browser: &Browser, feature: &str, value: &str) {
    let features = json!({ "features": [{ "name": feature, "value": value }] });
    browser
        .devtools("Emulation.setEmulatedMedia", features)
        .await;
}

// ------------------------------------------------------------------- to eyes

/// The page's widest text, and every piece of text that reaches beyond the
/// screen or is clipped by what holds it.
const TEXT_BOXES: &str = "(() => {
    document.getElementById('place').textContent = '1,234,567';
    document.getElementById('about').hidden = false;
    const page = document.documentElement, shown = [], cut = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode, holder = text.parentElement;
        if (!text.data.trim() || holder.closest('script, noscript, .sr') || !holder.checkVisibility()) {
            continue;
        }
        const range = document.createRange();
        range.selectNodeContents(text);
        for (const box of range.getClientRects()) {
            let fits = box.left >= 0 && box.right <= page.clientWidth;
            for (let around = holder; around; around = around.parentElement) {
                if (getComputedStyle(around).overflow !== 'visible') {
                    const frame = around.getBoundingClientRect();
                    fits = fits && box.left >= frame.left && box.right <= frame.right
                        && box.top >= frame.top && box.bottom <= frame.bottom;
                }
            }
            (fits ? shown : cut).push(text.data.trim());
        }
    }
    return { width: page.clientWidth, scrolls: page.scrollWidth, shown: shown, cut: cut };
})()";

#[tokio::test]
async fn at_320_pixels_nothing_scrolls_sideways_and_no_text_is_cut() {
    let shop = Shop::open(MESSAGE).await;
    let _other = shop.filled_by_another().await;
    for manner in [ENGLISH, KOREAN] {
        let browser = in_line(&shop, manner).await;
        let screen = json!({ "width": 320, "height": 568, "deviceScaleFactor": 2, "mobile": true });
        browser
            .devtools("Emulation.setDeviceMetricsOverride", screen)
            .await;
        let found = browser.evaluate(TEXT_BOXES).await;
        assert_eq!(found["width"], 320, "{found:#}");
        assert!(found["scrolls"].as_u64().unwrap() <= 320, "{found:#}");
        assert_eq!(found["cut"], json!([]), "{found:#}");
        let shown = found["shown"].as_array().unwrap();
        assert!(shown.contains(&json!("1,234,567")), "{found:#}");
        // The address is broken into lines.
        let pieces = shown
            .iter()
            .filter(|text| text.to_string().contains("a-long-word"));
        assert!(pieces.count() > 1, "{found:#}");
        browser.close().await;
    }
}

/// The colour of every piece of text that the page can show in this state,
/// and the colour behind it.
const COLOURS: &str = "(state => {
    document.getElementById('page').dataset.state = state;
    document.querySelectorAll('[hidden]').forEach(one => { one.hidden = false; });
    document.querySelectorAll('main *').forEach(one => {
        if (!one.textContent.trim() && !one.children.length) one.textContent = one.id;
    });
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode, holder = text.parentElement;
        if (!text.data.trim() || holder.closest('script, noscript, .sr') || !holder.checkVisibility()) {
            continue;
        }
        let ground = holder;
        while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') {
            ground = ground.parentElement;
        }
        const style = getComputedStyle(holder);
        found.push([text.data.trim(), style.color, getComputedStyle(ground).backgroundColor]);
    }
    return found;
})";

/// Red, green and blue.
type Colour = [u8; 3];

/// A piece of text, its colour, and the colour behind it.
type Painted = (String, Colour, Colour);

async fn painted(browser: &Browser, state: &str) -> Vec<Painted> {
    let found = browser.evaluate(&format!("{COLOURS}({state:?})")).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pieces = found.as_array().unwrap().iter();
    pieces
        .map(|piece| {
            let (ink, ground) = (rgb(&text(&piece[1])), rgb(&text(&piece[2])));
            (text(&piece[0]), ink, ground)
        })
        .collect()
}

/// An opaque colour as CSS computes it.
fn rgb(colour: &str) -> Colour {
    let parts = colour
        .strip_prefix("rgb(")
        .and_then(|rest| rest.strip_suffix(')'));
    let parts = parts.unwrap_or_else(|| panic!("not opaque: {colour}"));
    let parts = parts.split(", ").map(|part| part.parse().unwrap());
    parts.collect::<Vec<u8>>().try_into().unwrap()
}

/// The contrast of two colours, by WCAG 2: from 1 to 21.
fn contrast(one: Colour, other: Colour) -> f64 {
    let luminance = |colour: Colour| {
        let linear = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn the_contrast_of_black_and_white_is_21() {
    assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
    let grey = contrast(rgb("rgb(119, 119, 119)"), rgb("rgb(255, 255, 255)"));
    assert!((grey - 4.48).abs() < 0.01, "{grey}");
}

#[tokio::test]
async fn by_day_and_by_night_every_text_stands_out_in_colours_of_its_own() {
    let shop = Shop::open(MESSAGE).await;
    let _other = shop.filled_by_another().await;
    let browser = Browser::open(ENGLISH).await;
    // This one has the box that says what became of a form.
    browser.go(&shop.url("/form")).await;
    browser.click("send").await;
    browser.says("heading", "You are in line").await;
    for state in ["wait", "turn", "block"] {
        prefer(&browser, "prefers-color-scheme", "light").await;
        let light = painted(&browser, state).await;
        prefer(&browser, "prefers-color-scheme", "dark").await;
        let dark = painted(&browser, state).await;
        assert!(light.len() >= 10, "{light:?}");
        assert_eq!(light.len(), dark.len());
        for (light, dark) in light.iter().zip(&dark) {
            assert_ne!(light.1, dark.1, "the same ink: {light:?}");
            assert_ne!(light.2, dark.2, "the same ground: {light:?}");
            for (text, ink, ground) in [light, dark] {
                let contrast = contrast(*ink, *ground);
                assert!(
                    contrast >= 4.5,
                    "{state}: {text:?} stands out by {contrast}"
                );
            }
        }
    }
    browser.close().await;
}

#[tokio::test]
async fn who_wants_less_motion_gets_none() {
    let shop = Shop::open("").await;
    let _other = shop.filled_by_another().await;
    let browser = in_line(&shop, ENGLISH).await;
    // In line, and at the moment of the call.
    let moving = "(states => states.map(state => {
        document.getElementById('page').dataset.state = state;
        return document.getAnimations().length;
    }))(['wait', 'turn', 'wait'])";
    prefer(&browser, "prefers-reduced-motion", "reduce").await;
    assert_eq!(browser.evaluate(moving).await, json!([0, 0, 0]));
    // That look can see motion: everybody else's water flows.
    prefer(&browser, "prefers-reduced-motion", "no-preference").await;
    let all = browser.evaluate(moving).await;
    assert!(
        all[0].as_u64() > Some(0) && all[1].as_u64() > all[0].as_u64(),
        "{all}"
    );
    browser.close().await;
}

// -------------------------------------------------------- to hands and to ears

/// Remembers what the live region says, and whether the focus moves.
const LISTEN: &str = "(() => {
    window.polls = () => performance.getEntriesByType('resource')
        .filter(one => one.name.endsWith('/__sumun/v1/status')).length;
    window.said = [];
    window.moves = 0;
    const live = document.getElementById('live');
    new MutationObserver(() => { said.push({ text: live.textContent, polls: polls() }); })
        .observe(live, { childList: true, characterData: true, subtree: true });
    for (const kind of ['focusin', 'focusout']) {
        document.addEventListener(kind, () => { moves += 1; });
    }
})()";

/// Waits until the live region has spoken so often.
async fn said(browser: &Browser, times: usize) -> Vec<Value> {
    until("a word of the live region", async || {
        let said = browser.evaluate("said").await.as_array().unwrap().clone();
        (said.len() >= times).then_some(said)
    })
    .await
}

#[tokio::test]
async fn as_the_line_moves_the_focus_stays_and_only_what_changed_is_spoken() {
    let shop = Shop::open("").await;
    let mut inside = shop.filled_by_another().await;
    let mut second = shop.site.visitor_in_line().await;
    let mut third = shop.site.visitor_in_line().await;
    let browser = in_line(&shop, ENGLISH).await;
    browser.says("place", "3").await;
    browser.evaluate(LISTEN).await;

    // Nothing has the focus; then something has it that the page rewrites.
    complete(&mut inside).await;
    second.open_until_inside("/tickets").await;
    second.open("/tickets").await.must_come_from_the_origin();
    browser.says("place", "2").await;
    let nobody = "document.activeElement === document.body && moves";
    assert_eq!(browser.evaluate(nobody).await, 0);
    let first_word = said(&browser, 1).await;
    let focus = "(heading => { heading.tabIndex = -1; heading.focus(); moves = 0; })";
    let heading = "document.getElementById('heading')";
    browser.evaluate(&format!("{focus}({heading})")).await;
    complete(&mut second).await;
    third.open_until_inside("/tickets").await;
    browser.says("place", "1").await;
    let said = said(&browser, first_word.len() + 1).await;
    let still = format!("document.activeElement === {heading} && moves");
    assert_eq!(browser.evaluate(&still).await, 0);

    let texts: Vec<&str> = said.iter().map(|s| s["text"].as_str().unwrap()).collect();
    assert!(texts[0].starts_with("Your place in line: 2."), "{said:?}");
    let last = texts.last().unwrap();
    assert!(last.starts_with("Your place in line: 1."), "{said:?}");
    // Most polls change nothing, or too soon for a voice.
    assert!(texts.windows(2).all(|two| two[0] != two[1]), "{said:?}");
    let polls = said.last().unwrap()["polls"].as_u64().unwrap();
    assert!(texts.len() as u64 * 3 <= polls, "{said:?}");
    let bar = accessible(&browser, "progressbar").await;
    assert_eq!(bar["value"]["value"].to_string().trim_matches('"'), "667");
    browser.close().await;
}

/// What a screen reader is given under this role; there must be just one.
async fn accessible(browser: &Browser, role: &str) -> Value {
    let tree = browser
        .devtools("Accessibility.getFullAXTree", json!({}))
        .await;
    let nodes = tree["nodes"].as_array().unwrap().iter();
    let mut found = nodes.filter(|node| node["role"]["value"] == role && node["ignored"] != true);
    let node = found
        .next()
        .unwrap_or_else(|| panic!("no {role} in {tree:#}"));
    assert!(found.next().is_none(), "more than one {role}");
    node.clone()
}

#[tokio::test]
async fn a_screen_reader_finds_the_heading_the_progress_and_the_live_region() {
    let shop = Shop::open("").await;
    let _other = shop.filled_by_another().await;
    for (manner, heading, progress) in [
        (ENGLISH, "You are in line", "Progress through the line"),
        (KOREAN, "접속 대기 중입니다", "대기 진행률"),
    ] {
        let browser = in_line(&shop, manner).await;
        let name = |node: &Value| node["name"]["value"].as_str().unwrap().to_owned();
        assert_eq!(name(&accessible(&browser, "heading").await), heading);
        let bar = accessible(&browser, "progressbar").await;
        assert_eq!(name(&bar), progress);
        assert!(bar["value"].is_object(), "{bar:#}");
        let status = accessible(&browser, "status").await;
        let properties = status["properties"].as_array().unwrap();
        let live = properties
            .iter()
            .find(|property| property["name"] == "live");
        assert_eq!(live.unwrap()["value"]["value"], "polite", "{status:#}");
        browser.close().await;
    }
}

// ------------------------------------------------------------------- its weight

#[tokio::test]
async fn the_page_is_one_response_below_20_kilobytes_and_asks_its_own_host_alone() {
    let shop = Shop::open("").await;
    let _other = shop.filled_by_another().await;
    for manner in [ENGLISH, KOREAN] {
        let browser = in_line(&shop, manner).await;
        let entries = until("a poll", async || {
            let entries = browser.evaluate("performance.getEntries()").await;
            let entries = entries.as_array().unwrap().clone();
            let is_poll = |one: &Value| one["name"] == *shop.url("/__sumun/v1/status");
            entries.iter().any(is_poll).then_some(entries)
        })
        .await;
        for entry in entries {
            match entry["entryType"].as_str().unwrap() {
                "navigation" => {
                    // Head and body, as they came over the wire.
                    let bytes = entry["transferSize"].as_u64().unwrap();
                    assert!((5_000..20_000).contains(&bytes), "{entry:#}");
                }
                "resource" => {
                    let name = entry["name"].as_str().unwrap();
                    // The timer's worker never leaves the browser.
                    let ours = name.starts_with(&shop.url("/")) || name.starts_with("blob:");
                    assert!(ours, "{entry:#}");
                }
                _ => {}
            }
        }
        browser.close().await;
    }
}
