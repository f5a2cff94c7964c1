//! Money as an integer.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use crate::Error;

/// US dollars as a whole number of picodollars (1e-12 USD) in an `i128`.
///
/// One million dollars a million times over still fits. Sums are exact; where the range would end they stay at its
/// end rather than wrap.
///
/// # Example
/// ```
/// use thrifty::price::Usd;
///
/// let cost: Usd = "0.0019175".parse()?;
/// assert_eq!(cost.pico(), 1_917_500_000);
/// assert_eq!((cost + Usd::from_pico(1)).to_string(), "0.001917500001");
/// # Ok::<(), thrifty::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

const PICO_PER_USD: u128 = 1_000_000_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many picodollars.
    #[must_use]
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// The picodollars.
    #[must_use]
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// Price of one where a million cost this many decimal dollars, as price lists have it.
    ///
    /// ```
    /// use thrifty::price::Usd;
    /// assert_eq!(Usd::per_million("0.25")?.pico(), 250_000);
    /// # Ok::<(), thrifty::Error>(())
    /// ```
    /// # Errors
    /// [`Kind::BadInput`](crate::Kind::BadInput) when it is no decimal or negative.
    pub fn per_million(text: &str) -> Result<Self, Error> {
        scaled(text, 6).filter(|pico| *pico >= 0).map(Self).ok_or_else(|| {
            Error::bad_input(
                format!("`{text}` is no price of a million"),
                "write dollars as a decimal such as 0.25, not negative",
            )
        })
    }

    /// The sum, or `None` where the range ends.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `n` times this much, or `None` where the range ends.
    #[must_use]
    pub fn checked_mul(self, n: u64) -> Option<Self> {
        self.0.checked_mul(i128::from(n)).map(Self)
    }

    /// Rounded to `decimals` (at most 12) for people, half away from zero: `$0.0019`.
    #[must_use]
    pub fn display(self, decimals: u32) -> String {
        let decimals = decimals.min(12);
        let unit = 10u128.pow(12 - decimals);
        let rounded = (self.0.unsigned_abs() + unit / 2) / unit;
        let scale = 10u128.pow(decimals);
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        let whole = group(rounded / scale);
        if decimals == 0 {
            return format!("{sign}${whole}");
        }
        format!("{sign}${whole}.{:0width$}", rounded % scale, width = decimals as usize)
    }
}

/// Digits in groups of three.
fn group(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl fmt::Display for Usd {
    /// Exact decimal dollars without trailing zeros: `0.0019175`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.unsigned_abs() / PICO_PER_USD, self.0.unsigned_abs() % PICO_PER_USD);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let rest = format!("{rest:012}");
        write!(f, "{sign}{whole}.{}", rest.trim_end_matches('0'))
    }
}

impl FromStr for Usd {
    type Err = Error;

    /// Reads decimal dollars, in exponent form too; finer than a picodollar is rounded half to even.
    fn from_str(text: &str) -> Result<Self, Error> {
        scaled(text, 12).map(Self).ok_or_else(|| {
            Error::bad_input(
                format!("`{text}` is no amount of dollars"),
                "write it as a decimal such as 0.25 or 4e-8",
            )
        })
    }
}

/// The decimal `text` times 10^`shift` as an integer, rounded half to even; `None` if it is no finite decimal or
/// out of range. Rates are read with it from decimal text, never through floats.
pub(super) fn scaled(text: &str, shift: i32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (int, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.is_empty() && fraction.is_empty()
        || !int.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits = format!("{int}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let scale = exponent.checked_add(shift)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = if scale >= 0 {
        digits.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?
    } else {
        let cut = scale.unsigned_abs() as usize;
        let (whole, rest) =
            if cut >= digits.len() { ("0", digits) } else { digits.split_at(digits.len() - cut) };
        let whole: i128 = whole.parse().ok()?;
        // `rest` stands for its digits behind `cut - rest.len()` further zeros.
        let half = if cut > digits.len() { std::cmp::Ordering::Less } else { against_half(rest) };
        match half {
            std::cmp::Ordering::Greater => whole.checked_add(1)?,
            std::cmp::Ordering::Equal => whole + whole % 2,
            std::cmp::Ordering::Less => whole,
        }
    };
    Some(if negative { -value } else { value })
}

fn against_half(rest: &str) -> std::cmp::Ordering {
    let first = rest.as_bytes()[0];
    first.cmp(&b'5').then_with(|| {
        if rest[1..].bytes().all(|b| b == b'0') {
            std::cmp::Ordering::Equal
        } else {
            std::cmp::Ordering::Greater
        }
    })
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Usd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Usd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_and_written_exactly() {
        for (text, pico) in [
            ("0", 0),
            ("1", 1_000_000_000_000),
            ("4E-8", 40_000),
            ("-0.000000000001", -1),
            (".5", 500_000_000_000),
            ("0.0000000000005", 0),
            ("0.0000000000015", 2),
            ("0.00000000000051", 1),
            ("0.00000000000005", 0),
            ("3.0001999999999996e-07", 300_020),
        ] {
            assert_eq!(text.parse::<Usd>().unwrap().pico(), pico, "{text}");
        }
        for text in ["", ".", "NaN", "1e999999999999", "0x1", "1,5", "--1"] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
        assert_eq!(Usd::from_pico(1_917_500_000).to_string(), "0.0019175");
        assert_eq!(Usd::from_pico(-2_000_000_000_000).to_string(), "-2");
    }

    #[test]
    fn amounts_are_rounded_only_for_people() {
        assert_eq!(Usd::from_pico(1_234_567_890_000_000_000).display(2), "$1,234,567.89");
        assert_eq!(Usd::from_pico(-4_999).display(4), "$0.0000");
        assert_eq!(Usd::from_pico(1_500_000_000_000).display(0), "$2");
    }
}
