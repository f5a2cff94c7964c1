//! Splitting a whole number so that the parts add up.

/// `total` in parts proportional to `weights`, by largest remainder: each part is rounded down, and what is left
/// goes one by one to those that lost most, the first ones where they lost the same. The parts add up to `total`.
/// Weights that are all 0 count the same. No weights, no parts.
pub(super) fn apportion(total: u128, weights: &[u64]) -> Vec<u128> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return match weights.len() {
            0 => Vec::new(),
            n => apportion(total, &vec![1; n]),
        };
    }
    // Quotient and rest apart, so that no product overflows: the rest is below the sum, and token counts leave a
    // product of the two far below 2^128.
    let (whole, rest) = (total / sum, total % sum);
    let exact = |weight: &u64| {
        let weight = u128::from(*weight);
        let product = rest.saturating_mul(weight);
        (whole * weight + product / sum, product % sum)
    };
    let (mut parts, lost): (Vec<u128>, Vec<u128>) = weights.iter().map(exact).unzip();
    let mut left = total - parts.iter().sum::<u128>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| lost[*b].cmp(&lost[*a]).then(a.cmp(b)));
    for at in order.into_iter().cycle() {
        if left == 0 {
            break;
        }
        parts[at] += 1;
        left -= 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_over_goes_where_most_was_lost() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(10, &[3, 3, 1]), [4, 4, 2]);
        assert_eq!(apportion(3, &[0, 0]), [2, 1]);
        assert_eq!(apportion(0, &[5, 6]), [0, 0]);
        assert_eq!(apportion(7, &[]), Vec::<u128>::new());
    }

    proptest! {
        #[test]
        fn parts_add_up_and_are_off_by_less_than_one(
            total in 0u128..1 << 90,
            weights in prop::collection::vec(0u64..1 << 20, 1..60),
        ) {
            let parts = apportion(total, &weights);
            prop_assert_eq!(parts.iter().sum::<u128>(), total);
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            prop_assume!(sum > 0);
            for (part, weight) in parts.iter().zip(&weights) {
                let exact = total * u128::from(*weight);
                prop_assert!(part * sum < exact + sum && exact < part * sum + sum);
            }
        }
    }
}
