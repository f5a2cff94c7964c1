//! Which members an operator may leave out of keys: never what is asked, and never a path that means nothing.
//!
//! A path that is accepted and matches nothing costs hits and nobody knows why. One that takes the question out of
//! the key gives one answer to all questions. Both are refused when the cache is built.

use crate::Error;

/// Members that hold what is asked and may hold an id beside it: they are not left out as a whole. In lower case,
/// without `_` and `-`, over all formats.
const HOLDERS: &[&str] = &[
    "chathistory",
    "content",
    "contents",
    "document",
    "documents",
    "file",
    "functioncall",
    "functionresponse",
    "generationconfig",
    "history",
    "input",
    "inputs",
    "item",
    "items",
    "message",
    "messages",
    "outputconfig",
    "part",
    "parts",
    "request",
    "requests",
    "system",
    "systeminstruction",
    "toolcall",
    "toolcalls",
    "toolresult",
    "toolresults",
    "tooluse",
    "turns",
];

/// Members of which all is what is asked, or of whom: nothing in them is left out either.
const ASKED: &[&str] = &[
    "args",
    "arguments",
    "audio",
    "bytes",
    "cachedcontent",
    "code",
    "codeexecutionresult",
    "context",
    "custom",
    "data",
    "deployment",
    "description",
    "developer",
    "encryptedcontent",
    "executablecode",
    "filedata",
    "fileid",
    "fileids",
    "fileuri",
    "fileurl",
    "format",
    "function",
    "functiondeclarations",
    "functions",
    "image",
    "images",
    "imageurl",
    "inlinedata",
    "inputaudio",
    "inputschema",
    "instruction",
    "instructions",
    "json",
    "jsonschema",
    "media",
    "model",
    "modelid",
    "models",
    "output",
    "outputformat",
    "parameters",
    "preamble",
    "prompt",
    "prompts",
    "query",
    "question",
    "raw",
    "reasoningcontent",
    "refusal",
    "response",
    "responseformat",
    "responsejsonschema",
    "responseschema",
    "result",
    "results",
    "role",
    "schema",
    "source",
    "suffix",
    "systemprompt",
    "template",
    "text",
    "texts",
    "thinking",
    "thought",
    "tool",
    "toolchoice",
    "toolconfig",
    "toolname",
    "tools",
    "transcript",
    "type",
    "uri",
    "url",
    "video",
    "videos",
];

/// The names in `path`, joined by `/`.
pub(super) fn names(path: &str) -> Result<&str, Error> {
    const POINTER: &str = "write it as a path to a member, `*` for each element of an array: /messages/*/id";
    let refused = |why: &str, help: &str| Err(Error::bad_setting(format!("`{}` {why}", shown(path)), help));
    let Some(names) = path.strip_prefix('/').filter(|names| !names.split('/').any(str::is_empty)) else {
        return refused("is no path to a member of a body", POINTER);
    };
    if names.contains('~') || names.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused(
            "holds `~` or white space",
            "name members that are spelled without them: /messages/*/id",
        );
    }
    if names.split('/').any(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        return refused("names one element by its number", "mean all elements with `*`: /messages/*/id");
    }
    if names.split('/').any(|name| name.contains('*') && name != "*") {
        return refused("holds `*` within a name", "let `*` stand alone, for each element of an array");
    }
    if names.starts_with('*') {
        return refused("begins with an element, and a body is an object", POINTER);
    }
    if names.ends_with('*') {
        return refused("ends with all elements of an array", "name a member of them: /messages/*/id");
    }
    let is = |list: &[&str], name: &str| {
        let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).collect();
        list.contains(&plain.to_ascii_lowercase().as_str())
    };
    let last = names.rsplit('/').next().unwrap_or_default();
    let holds = is(HOLDERS, last) || names.split('/').any(|name| is(ASKED, name));
    // Whose words they are, or which tool is called; elsewhere a name is one of the client's own.
    if holds || (last == "name" && names.split('/').any(|name| is(HOLDERS, name))) {
        return refused(
            "is named like what holds the question: other questions could get the same answer",
            "leave out only what a client makes up for each call: /messages/*/id",
        );
    }
    Ok(names)
}

/// As it stands in one line of an error.
fn shown(path: &str) -> String {
    path.chars().take(100).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_path_that_means_nothing_is_refused_with_the_true_reason() {
        for (path, why) in [
            ("", "no path"),
            ("/", "no path"),
            ("messages/*/id", "no path"),
            ("/messages//id", "no path"),
            ("/messages/", "no path"),
            ("/a~1b", "`~`"),
            ("/messages/ * /id", "white space"),
            ("/messages/*/id\n", "white space"),
            ("/messages/0/id", "number"),
            ("/messages/*id", "within a name"),
            ("/messages/**/id", "within a name"),
            ("/*/id", "begins with"),
            ("/messages/*", "ends with"),
        ] {
            let error = names(path).expect_err(path);
            let text = error.to_string();
            assert_eq!(error.kind(), Kind::BadSetting, "{path}");
            assert!(text.contains(why) && !text.contains('\n'), "{path:?}: {text}");
        }
    }

    #[test]
    fn what_is_asked_is_never_left_out_and_nothing_above_it_either() {
        for path in [
            "/messages",
            "/messages/*/content",
            "/messages/*/content/*/text",
            "/messages/*/role",
            "/messages/*/tool_calls",
            "/messages/*/tool_calls/*/function/arguments",
            "/messages/*/content/*/image_url/url",
            "/messages/*/content/*/source/data",
            "/contents",
            "/contents/*/parts",
            "/contents/*/parts/*/inlineData",
            "/contents/*/parts/*/inline_data/data",
            "/systemInstruction",
            "/system_instruction",
            "/system",
            "/instructions",
            "/input",
            "/input/*/content/*/file_id",
            "/prompt",
            "/prompt/id",
            "/suffix",
            "/images",
            "/model",
            "/modelId",
            "/tools",
            "/tools/*/function/name",
            "/tools/*/functionDeclarations",
            "/functions",
            "/tool_choice",
            "/response_format",
            "/generationConfig/responseSchema",
            "/generationConfig",
            "/output_config",
            "/contents/*/parts/*/functionCall/name",
            "/messages/*/name",
            "/requests",
            "/requests/*/content",
            "/texts",
        ] {
            let error = names(path).expect_err(path).to_string();
            assert!(error.contains("holds the question"), "{path}: {error}");
        }
    }

    #[test]
    fn ids_and_settings_may_be_left_out() {
        for path in [
            "/messages/*/id",
            "/messages/*/content/*/id",
            "/messages/*/tool_call_id",
            "/messages/*/tool_calls/*/id",
            "/messages/*/content/*/tool_use_id",
            "/contents/*/parts/*/functionCall/id",
            "/input/*/id",
            "/trace",
            "/x",
            "/metadata/request_id",
            "/metadata/name",
            "/extra_body/trace-id",
        ] {
            assert_eq!(names(path).expect(path), &path[1..]);
        }
    }
}
