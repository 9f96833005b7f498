//! The input as a sequence of decisions. What begins with an input of another length is the same, so that libFuzzer can cut
//! and join inputs.

/// What is left of the input.
#[derive(Debug, Clone, Copy)]
pub struct Decisions<'a>(&'a [u8]);

impl<'a> Decisions<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decisions(bytes)
    }

    /// The next byte; None at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// The next byte, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Two bytes, the lower first.
    pub fn pair(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next byte as one of so many choices.
    pub fn below(&mut self, choices: usize) -> usize {
        usize::from(self.byte()) % choices.max(1)
    }
}
