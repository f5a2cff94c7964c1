//! Where two bodies differ after the canonical rules.

use super::super::key::Bypass;
use super::tape::{Kind, Node, Tape};
use super::{Member, Number, Paths, sorted};

/// JSON pointers of the places where `a` and `b` differ after the canonical rules, in the order of sorted names.
///
/// Empty exactly when both have the same [`digest`](super::digest). `excluded` names members that do not count, as
/// there. A member or element that only one of the two has is named itself.
///
/// # Errors
/// [`Bypass`] when one of them has no canonical form.
pub fn differences(a: &[u8], b: &[u8], excluded: &[&str]) -> Result<Vec<String>, Bypass> {
    let excluded = Paths::new(excluded);
    let (a, b) = (Tape::read(a)?, Tape::read(b)?);
    // Encoding each first finds what a comparison might step over: names twice inside members that do not count.
    for tape in [&a, &b] {
        super::encode(tape, &excluded, &mut super::Sink::unkeyed(0))?;
    }
    let mut differ = Differ { a, b, found: Vec::new(), at: String::new() };
    differ.value((0, 0), &excluded, excluded.all(), 0)?;
    Ok(differ.found)
}

struct Differ<'a> {
    a: Tape<'a>,
    b: Tape<'a>,
    found: Vec<String>,
    at: String,
}

impl Differ<'_> {
    fn value(
        &mut self,
        (a, b): (usize, usize),
        excluded: &Paths<'_>,
        open: u64,
        depth: usize,
    ) -> Result<(), Bypass> {
        let (left, right) = (self.a.nodes[a], self.b.nodes[b]);
        match (left.kind, right.kind) {
            (Kind::Object, Kind::Object) => return self.object((a, b), excluded, open, depth),
            (Kind::Array, Kind::Array) => {
                let open = excluded.step(open, depth, b"*").0;
                let (mut i, mut j) = (a + 1, b + 1);
                for n in 0..left.len.max(right.len) {
                    let back = self.enter(n.to_string().as_bytes());
                    if n < left.len && n < right.len {
                        self.value((i, j), excluded, open, depth + 1)?;
                        (i, j) = (self.a.nodes[i].next as usize, self.b.nodes[j].next as usize);
                    } else {
                        self.found.push(self.at.clone());
                    }
                    self.at.truncate(back);
                }
            }
            _ if !self.same(&left, &right)? => self.found.push(self.at.clone()),
            _ => {}
        }
        Ok(())
    }

    fn object(
        &mut self,
        (a, b): (usize, usize),
        excluded: &Paths<'_>,
        open: u64,
        depth: usize,
    ) -> Result<(), Bypass> {
        let (mut left, mut right): (Vec<Member>, Vec<Member>) = (Vec::new(), Vec::new());
        sorted(&self.a, a, excluded, open, depth, &mut left)?;
        sorted(&self.b, b, excluded, open, depth, &mut right)?;
        left.retain(|member| !member.excluded);
        right.retain(|member| !member.excluded);
        let (mut i, mut j) = (0, 0);
        while i < left.len() || j < right.len() {
            let first = left.get(i).map(|member| self.a.bytes(&self.a.nodes[member.name as usize]));
            let second = right.get(j).map(|member| self.b.bytes(&self.b.nodes[member.name as usize]));
            let order = match (first, second) {
                (Some(first), Some(second)) => first.cmp(second),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            let name = if order.is_le() { first } else { second }.unwrap_or_default().to_vec();
            let back = self.enter(&name);
            if order.is_eq() {
                let values = (left[i].name as usize + 1, right[j].name as usize + 1);
                self.value(values, excluded, left[i].open, depth + 1)?;
            } else {
                self.found.push(self.at.clone());
            }
            self.at.truncate(back);
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
        Ok(())
    }

    fn same(&self, left: &Node, right: &Node) -> Result<bool, Bypass> {
        let text = |kind| matches!(kind, Kind::Text | Kind::Unescaped);
        let (a, b) = (|| self.a.bytes(left), || self.b.bytes(right));
        Ok(match (left.kind, right.kind) {
            (Kind::Number, Kind::Number) => Number::read(a())?.is(&Number::read(b())?),
            (one, other) if text(one) && text(other) => a() == b(),
            (one, other) => one == other,
        })
    }

    /// Adds a step to the pointer; answers the length to cut it back to.
    fn enter(&mut self, name: &[u8]) -> usize {
        let back = self.at.len();
        self.at.push('/');
        self.at.push_str(&String::from_utf8_lossy(name).replace('~', "~0").replace('/', "~1"));
        back
    }
}
