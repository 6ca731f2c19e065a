//! The words for what newcomers are: closed sets, so that nothing of a request
//! ever becomes the value of a label.

/// A set of words; each is the value of a label and a name in the API.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`.")] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// As it is shown.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        })*
    };
}

words! {
    /// How a newcomer came in.
    Access {
        Browser = "browser",
        App = "app",
        Api = "api",
        Crawler = "crawler",
        Tool = "tool",
        Other = "other",
    }
    /// What led a newcomer here.
    Source {
        Direct = "direct",
        Search = "search",
        Social = "social",
        Internal = "internal",
        Campaign = "campaign",
        Referral = "referral",
        Other = "other",
    }
    /// What a newcomer holds in the hand.
    Device {
        Desktop = "desktop",
        Mobile = "mobile",
        Tablet = "tablet",
        Tv = "tv",
        Console = "console",
        Other = "other",
    }
    /// The family of its operating system.
    System {
        Windows = "windows",
        MacOs = "macos",
        Ios = "ios",
        Android = "android",
        Linux = "linux",
        ChromeOs = "chromeos",
        Tizen = "tizen",
        WebOs = "webos",
        Other = "other",
    }
    /// The family of its browser, or the app that shows pages in its place.
    Browser {
        Chrome = "chrome",
        Safari = "safari",
        Edge = "edge",
        Firefox = "firefox",
        Samsung = "samsung",
        Whale = "whale",
        Opera = "opera",
        Vivaldi = "vivaldi",
        Yandex = "yandex",
        Brave = "brave",
        InternetExplorer = "ie",
        KakaoTalk = "kakaotalk",
        Naver = "naver",
        Line = "line",
        Instagram = "instagram",
        Facebook = "facebook",
        Webview = "webview",
        Other = "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_agree() {
        for (at, word) in Browser::WORDS.iter().enumerate() {
            assert_eq!(
                Browser::WORDS.iter().position(|other| other == word),
                Some(at)
            );
        }
        assert_eq!(Browser::WORDS[Browser::Other as usize], "other");
        assert_eq!(Access::WORDS[Access::Tool as usize], Access::Tool.word());
        assert_eq!(Device::WORDS.len(), Device::Other as usize + 1);
    }
}
