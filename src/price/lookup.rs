//! From the model id of a request or reply to the one of a table.
//!
//! One model goes by many ids: dated, with a provider in front, with a region, with a version behind. A form is
//! only ever made shorter by a known piece at its front or end and then compared whole, so an unknown model never
//! takes the price of a neighbour with a similar name.

/// Pieces in front of a `/` that name the vendor or a cloud at the vendor's price. Hosts with prices of their own are
/// not among them.
const PATHS: &[&str] = &[
    "openai/",
    "azure/",
    "azure_ai/",
    "anthropic/",
    "models/",
    "publishers/google/models/",
    "publishers/anthropic/models/",
    "google/",
    "gemini/",
    "vertex_ai/",
    "bedrock/",
    "converse/",
    "mistral/",
    "mistralai/",
    "deepseek/",
    "xai/",
    "x-ai/",
    "cohere/",
    "voyage/",
    "amazon/",
];

/// Pieces in front of a `.`: regions and vendors of one cloud.
const DOTTED: &[&str] = &[
    "us.",
    "eu.",
    "apac.",
    "global.",
    "au.",
    "jp.",
    "ca.",
    "us-gov.",
    "anthropic.",
    "amazon.",
    "meta.",
    "mistral.",
    "cohere.",
];

/// Other ids that mean the same model as `id`, nearest first; `id` itself is not among them.
pub(super) fn forms(id: &str) -> Vec<&str> {
    let mut forms = vec![id];
    // Each form with one piece fewer, breadth first; a bound keeps hostile ids cheap.
    let mut next = 0;
    while next < forms.len() && forms.len() < 64 {
        let form = forms[next];
        next += 1;
        for shorter in [without_path(form), without_end(form), without_region(form)].into_iter().flatten() {
            if !shorter.is_empty() && !forms.contains(&shorter) {
                forms.push(shorter);
            }
        }
    }
    forms.remove(0);
    forms
}

/// Without a vendor in front, for the index of a table.
pub(super) fn without_path(id: &str) -> Option<&str> {
    PATHS.iter().find_map(|piece| id.strip_prefix(piece))
}

fn without_region(id: &str) -> Option<&str> {
    DOTTED.iter().find_map(|piece| id.strip_prefix(piece))
}

fn without_end(id: &str) -> Option<&str> {
    if let Some((front, version)) = id.rsplit_once('@') {
        return (version == "default" || version == "latest" || is_date(version)).then_some(front);
    }
    // `:0` of Bedrock and `-v1:0` before it.
    if let Some((front, version)) = id.rsplit_once(':') {
        return digits(version, 1).then_some(front);
    }
    if let Some(front) = id.strip_suffix("-latest") {
        return Some(front);
    }
    if let Some((front, _)) = id.rsplit_once("-v").filter(|(_, version)| digits(version, 1)) {
        return Some(front);
    }
    [11, 9].into_iter().find_map(|length| {
        let at = id.len().checked_sub(length)?;
        let (front, end) = (id.get(..at)?, id.get(at..)?);
        is_date(end.strip_prefix('-')?).then_some(front)
    })
}

/// `YYYYMMDD` or `YYYY-MM-DD` of this century.
fn is_date(text: &str) -> bool {
    let plain: String = match text.len() {
        8 => text.into(),
        10 if text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' => text.replace('-', ""),
        _ => return false,
    };
    let between = |range, low, high| {
        plain
            .get(range)
            .and_then(|part: &str| part.parse::<u8>().ok())
            .is_some_and(|n| (low..=high).contains(&n))
    };
    digits(&plain, 8) && plain.starts_with("20") && between(4..6, 1, 12) && between(6..8, 1, 31)
}

fn digits(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_pieces_come_off_at_both_ends() {
        for (id, plain) in [
            ("openai/gpt-5-mini", "gpt-5-mini"),
            ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("claude-haiku-4-5-latest", "claude-haiku-4-5"),
            ("vertex_ai/claude-haiku-4-5@20251001", "claude-haiku-4-5"),
            ("claude-haiku-4-5@default", "claude-haiku-4-5"),
            ("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
            ("us.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("azure/gpt-4o", "gpt-4o"),
        ] {
            assert!(forms(id).contains(&plain), "{id}: {:?}", forms(id));
        }
    }

    #[test]
    fn other_pieces_stay() {
        for id in [
            "gpt-5-mini-preview",
            "gpt-4o-99999999",
            "ft:gpt-4o-mini-2024-07-18:me::abc",
            "llama3:70b",
            "together_ai/meta-llama/Llama-3.3-70B",
            "ollama/qwen3",
            "some-2025-13-01",
            "",
        ] {
            assert!(forms(id).is_empty(), "{id}: {:?}", forms(id));
        }
    }

    proptest! {
        #[test]
        fn any_id_has_forms_that_lie_inside_it(id in "(openai/|us\\.|\\PC){0,6}(@default|:0|-latest|-20250101|é){0,4}") {
            for form in forms(&id) {
                prop_assert!(id.contains(form) && form.len() < id.len());
            }
        }
    }
}
