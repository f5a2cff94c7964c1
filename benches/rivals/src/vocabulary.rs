//! What rivals that come without a vocabulary are told: the tokens of tiktoken-rs, in the forms they read.

use std::collections::HashMap;

use thrifty::tokens::Encoding;
use tiktoken_rs::CoreBPE;
use tokenizers::pipeline::PipelineTokenizer;

const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub fn core(encoding: Encoding) -> &'static CoreBPE {
    match encoding {
        Encoding::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        _ => tiktoken_rs::o200k_base_singleton(),
    }
}

fn pattern(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Cl100kBase => CL100K,
        _ => tiktoken_rs::O200K_BASE_PAT_STR,
    }
}

fn tokens(encoding: Encoding) -> Vec<Vec<u8>> {
    let core = core(encoding);
    // Ranks are without a gap; special tokens come after one.
    (0..).map_while(|rank| core.decode_bytes(&[rank]).ok()).collect()
}

pub fn fastokens(encoding: Encoding) -> fastokens::Tokenizer {
    let ranks: Vec<(Vec<u8>, u32)> = tokens(encoding).into_iter().zip(0..).collect();
    let config = fastokens::TiktokenConfig::new(pattern(encoding), Vec::new());
    fastokens::Tokenizer::from_tiktoken_ranks(&ranks, config).expect("fastokens takes the vocabulary")
}

/// A `tokenizer.json` made here.
pub fn pipeline(encoding: Encoding) -> PipelineTokenizer {
    let tokens = tokens(encoding);
    let ranks: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(rank, token)| (&**token, rank)).collect();
    let spelled = |bytes: &[u8]| bytes.iter().map(|&byte| letter(byte)).collect::<String>();
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.iter().zip(0..).map(|(token, rank)| (spelled(token), rank.into())).collect();
    let merges: Vec<[String; 2]> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.len() > 1)
        .map(|(rank, token)| {
            let middle = last_join(&ranks, token, rank);
            [spelled(&token[..middle]), spelled(&token[middle..])]
        })
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern(encoding)}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    let json = tokenizers::canonicalize_str(&json.to_string()).expect("a canonical form");
    tokenizers::from_json(&json).expect("tokenizers reads the file")
}

/// Where the last two parts of a token meet when its bytes are merged.
fn last_join(ranks: &HashMap<&[u8], usize>, token: &[u8], rank: usize) -> usize {
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    while ends.len() > 3 {
        let joins = ends.windows(3).zip(1..).filter_map(|(three, at)| {
            let join = *ranks.get(&token[three[0]..three[2]])?;
            (join < rank).then_some((join, at))
        });
        let (_, at) = joins.min().expect("a token is what merging its bytes gives");
        ends.remove(at);
    }
    ends[1]
}

/// How byte-level vocabularies spell a byte.
fn letter(byte: u8) -> char {
    let printed = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printed(byte) {
        return byte.into();
    }
    let before = (0..byte).filter(|&byte| !printed(byte)).count() as u32;
    char::from_u32(0x100 + before).expect("a letter")
}
