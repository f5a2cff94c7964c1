//! Replies, streams and usage objects of Gemini.

use std::collections::BTreeMap;

use crate::call::json::Object;
use crate::dialect::stream::{Facts, worse};
use crate::dialect::usage::{Contradiction, add, count};
use crate::dialect::{Called, Finish, Outcome, Usage};

/// Counts of one `..TokensDetails` list by kind.
#[derive(Default)]
struct Kinds {
    text: Option<u64>,
    audio: Option<u64>,
    image: Option<u64>,
    video: Option<u64>,
}

fn kinds(object: &Object<'_>, name: &str) -> Result<Kinds, Contradiction> {
    let mut kinds = Kinds::default();
    for entry in object.elements(name).unwrap_or_default().into_iter().filter_map(Object::parse) {
        let slot = match entry.str("modality").as_deref() {
            Some("TEXT") => &mut kinds.text,
            Some("AUDIO") => &mut kinds.audio,
            Some("IMAGE" | "DOCUMENT") => &mut kinds.image,
            Some("VIDEO") => &mut kinds.video,
            _ => continue,
        };
        *slot = add([*slot, count(&entry, "tokenCount")?])?;
    }
    Ok(kinds)
}

pub(super) fn read_usage(object: &Object<'_>) -> Result<Option<Usage>, Contradiction> {
    let (prompt, total) = (count(object, "promptTokenCount")?, count(object, "totalTokenCount")?);
    let answer = count(object, "candidatesTokenCount")?;
    let thoughts = count(object, "thoughtsTokenCount")?;
    if prompt.is_none() && total.is_none() && answer.is_none() {
        return Ok(None);
    }
    let from_tools = count(object, "toolUsePromptTokenCount")?;
    let of_prompt = kinds(object, "promptTokensDetails")?;
    let of_tools = kinds(object, "toolUsePromptTokensDetails")?;
    let of_cache = kinds(object, "cacheTokensDetails")?;
    let of_answer = kinds(object, "candidatesTokensDetails")?;
    // Counts of zero are left out here, so beside a total a missing one says that there is nothing.
    let zero = total.map(|_| 0);
    let usage = Usage {
        input: add([prompt.or(zero), from_tools])?,
        read: count(object, "cachedContentTokenCount")?,
        output: add([answer.or(zero), thoughts])?,
        reasoning: thoughts,
        input_audio: add([of_prompt.audio, of_tools.audio])?,
        input_image: add([of_prompt.image, of_tools.image])?,
        input_video: add([of_prompt.video, of_tools.video])?,
        input_text: add([of_prompt.text, of_tools.text])?,
        input_tool: from_tools,
        read_audio: of_cache.audio,
        read_image: of_cache.image,
        read_video: of_cache.video,
        output_audio: of_answer.audio,
        output_image: of_answer.image,
        output_text: of_answer.text,
        ..Usage::default()
    };
    usage.checked(total).map(Some)
}

fn finish(reason: &str) -> Finish {
    match reason {
        "STOP" => Finish::Whole,
        "MAX_TOKENS" | "CONTINUATION" => Finish::Truncated,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
        | "MODEL_ARMOR" => Finish::Refused,
        reason if reason.starts_with("IMAGE_") => Finish::Refused,
        _ => Finish::Unknown,
    }
}

#[derive(Debug, Default)]
pub(super) struct GeminiFacts {
    model: Option<String>,
    service_tier: Option<String>,
    usage: Option<Usage>,
    /// Of each candidate: how it ended, and whether it holds anything.
    candidates: BTreeMap<u64, (Option<Finish>, bool)>,
    called: Called,
    text_bytes: u64,
    blocked: bool,
    failed: bool,
    unread: bool,
}

impl GeminiFacts {
    pub(super) fn chunk(&mut self, chunk: &Object<'_>) {
        self.failed |= chunk.some("error").is_some();
        self.blocked |= chunk.object("promptFeedback").is_some_and(|said| said.some("blockReason").is_some());
        if let Some(model) = chunk.str("modelVersion") {
            self.model = Some(model.into_owned());
        }
        if let Some(usage) = chunk.object("usageMetadata") {
            self.usage = read_usage(&usage).ok().flatten();
            if let Some(tier) = usage.str("serviceTier").or_else(|| usage.str("trafficType")) {
                self.service_tier = Some(tier.into_owned());
            }
        }
        for candidate in chunk.elements("candidates").unwrap_or_default() {
            match Object::parse(candidate) {
                Some(candidate) => self.candidate(&candidate),
                None => self.unread = true,
            }
        }
    }

    fn candidate(&mut self, candidate: &Object<'_>) {
        let index = candidate.u64("index").unwrap_or(0);
        // The API allows 8.
        if self.candidates.len() == 64 && !self.candidates.contains_key(&index) {
            self.unread = true;
            return;
        }
        let (ending, has_content) = self.candidates.entry(index).or_default();
        if let Some(reason) = candidate.str("finishReason") {
            *ending = Some(finish(&reason));
        }
        let content = candidate.object("content").unwrap_or_default();
        for part in content.elements("parts").unwrap_or_default().into_iter().filter_map(Object::parse) {
            if let Some(text) = part.str("text") {
                self.text_bytes += text.len() as u64;
                *has_content |= !text.is_empty() && part.bool("thought") != Some(true);
            } else if let Some(call) = part.object("functionCall") {
                self.text_bytes += call.some("args").map_or(0, |args| args.len() as u64);
                *has_content = true;
                self.called.add(&call.str("name").unwrap_or_default());
            } else if part.some("inlineData").is_some() {
                *has_content = true;
            }
        }
    }
}

impl Facts for GeminiFacts {
    fn event(&mut self, _: Option<&str>, data: &str) {
        match Object::parse(data) {
            Some(chunk) => self.chunk(&chunk),
            None => self.unread = true,
        }
    }

    fn outcome(&self, ended: bool) -> Outcome {
        let endings = || self.candidates.values().map(|(ending, _)| *ending);
        let finish = if self.failed {
            Finish::Failed
        } else if self.blocked {
            Finish::Refused
        } else if !ended || self.candidates.is_empty() || endings().any(|ending| ending.is_none()) {
            Finish::Partial
        } else if self.unread {
            Finish::Unknown
        } else {
            endings().flatten().fold(Finish::Whole, worse)
        };
        Outcome {
            model: self.model.clone(),
            service_tier: self.service_tier.clone(),
            usage: self.usage,
            finish,
            empty: self.candidates.is_empty()
                || self.candidates.values().any(|(_, has_content)| !has_content),
            broken_tool_call: false,
            called: self.called.clone(),
            text_bytes: self.text_bytes,
        }
    }
}
