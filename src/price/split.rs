//! A usage as disjoint cells, each to be priced once.
//!
//! The parts of a usage overlap: cached audio is both cached and audio. Priced as they come, tokens would be billed
//! twice; so each side is first cut into cells that add up to it.

use super::What;
use crate::dialect::Usage;

/// Cells of both sides: what, and how many tokens. Zeros are in it.
pub(super) type Cells = [(What, u64); 14];

/// Cuts `usage` into cells, or `None` when its counts contradict each other. Unknown parts count as none of the
/// whole: their tokens stay in it, at its rate. The two wholes must be known.
pub(super) fn cells(usage: &Usage, input: u64, output: u64) -> Option<Cells> {
    let or_0 = |count: Option<u64>| count.unwrap_or(0);
    let (read, short, long) = (or_0(usage.read), or_0(usage.write_short), or_0(usage.write_long));
    let written = short.checked_add(long)?;
    input.checked_sub(read.checked_add(written)?)?;

    let of_kind = [usage.input_audio, usage.input_image, usage.input_video].map(or_0);
    let read_kind = [usage.read_audio, usage.read_image, usage.read_video].map(or_0);
    let text = input.checked_sub(sum(of_kind)?)?;
    let read_text = read.checked_sub(sum(read_kind)?)?;
    let mut fresh_kind = [0; 3];
    for (fresh, (all, read)) in fresh_kind.iter_mut().zip(of_kind.into_iter().zip(read_kind)) {
        *fresh = all.checked_sub(read)?;
    }
    // Reads and writes of no named kind are text first; what text cannot hold was some other kind.
    let plain = read_text.checked_add(written)?;
    let mut beyond = plain.saturating_sub(text);
    for fresh in &mut fresh_kind {
        let taken = beyond.min(*fresh);
        *fresh -= taken;
        beyond -= taken;
    }

    let (audio, image) = (or_0(usage.output_audio), or_0(usage.output_image));
    let reasoning = or_0(usage.reasoning);
    output.checked_sub(reasoning)?;
    let words = output.checked_sub(audio.checked_add(image)?)?;
    // Reasoning that is no words was already taken out as sound or pictures.
    let reasoning = reasoning.min(words);

    Some([
        (What::Input, text.saturating_sub(plain)),
        (What::InputAudio, fresh_kind[0]),
        (What::InputImage, fresh_kind[1]),
        (What::InputVideo, fresh_kind[2]),
        (What::Read, read_text),
        (What::ReadAudio, read_kind[0]),
        (What::ReadImage, read_kind[1]),
        (What::ReadVideo, read_kind[2]),
        (What::Write, short),
        (What::WriteLong, long),
        (What::Output, words - reasoning),
        (What::Reasoning, reasoning),
        (What::OutputAudio, audio),
        (What::OutputImage, image),
    ])
}

fn sum(counts: [u64; 3]) -> Option<u64> {
    counts.into_iter().try_fold(0, u64::checked_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(cells: &Cells, output: bool) -> u64 {
        cells.iter().filter(|(what, _)| what.is_output() == output).map(|(_, count)| count).sum()
    }

    #[test]
    fn cached_sound_of_which_nobody_said_that_it_was_sound_is_counted_once() {
        let mut usage = Usage::of(1000, 0).with_read(500);
        usage.input_audio = Some(900);
        let cells = cells(&usage, 1000, 0).unwrap();
        assert_eq!(count(&cells, false), 1000);
        assert!(cells.contains(&(What::Read, 500)) && cells.contains(&(What::InputAudio, 500)));
    }

    proptest! {
        #[test]
        fn the_cells_of_a_side_add_up_to_it(
            input in 0..50u64, output in 0..50u64, parts in proptest::array::uniform11(proptest::option::of(0..20u64)),
        ) {
            let usage = Usage {
                input: Some(input), output: Some(output), read: parts[0], write_short: parts[1],
                write_long: parts[2], reasoning: parts[3], input_audio: parts[4], input_image: parts[5],
                input_video: parts[6], read_audio: parts[7], read_image: parts[8], output_audio: parts[9],
                output_image: parts[10], ..Usage::default()
            };
            if let Some(cells) = cells(&usage, input, output) {
                prop_assert_eq!(count(&cells, false), input);
                prop_assert_eq!(count(&cells, true), output);
            } else {
                prop_assert!(parts.iter().any(Option::is_some), "two wholes alone cannot contradict each other");
            }
        }
    }
}
