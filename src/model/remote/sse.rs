//! Server-sent events, as far as streams of completions use them: lines, of which those of a field `data` count.
//!
//! The parser takes bytes as they come and gives each event's data once it is whole. It accepts what the standard
//! does (line ends of three kinds, comments, other fields) and is total: any bytes give events or one of its errors.

/// Longest data of an event.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Why bytes are no stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event has more than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    #[error("an event is not UTF-8")]
    NotText,
}

/// Between two pieces of a stream.
#[derive(Debug, Default)]
pub struct Events {
    /// The line that has not ended.
    line: Vec<u8>,
    /// Data of the event that has not ended.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed behind it ends no further line.
    after_return: bool,
    /// Whether a line has ended: the first one may have a byte order mark.
    begun: bool,
}

impl Events {
    /// Takes the next bytes and gives the data of the events that they end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() >= MAX_EVENT_BYTES => return Err(SseError::TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(.."\u{feff}".len());
        }
        if line.is_empty() {
            let Some(data) = self.data.take() else { return Ok(None) };
            return String::from_utf8(data).map(Some).map_err(|_| SseError::NotText);
        }
        let value = match line.strip_prefix(b"data") {
            Some(b"") => &[][..],
            Some(rest) => match rest.strip_prefix(b":") {
                Some(value) => value.strip_prefix(b" ").unwrap_or(value),
                // Another field.
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        let data = match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data
            }
            none => none.insert(Vec::new()),
        };
        if data.len() + value.len() > MAX_EVENT_BYTES {
            return Err(SseError::TooLong);
        }
        data.extend_from_slice(value);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(stream: &[u8]) -> Result<Vec<String>, SseError> {
        Events::default().push(stream)
    }

    #[test]
    fn data_lines_make_events() {
        let stream = b"\xef\xbb\xbfdata: {\"a\":1}\n\n: comment\nevent: x\nid: 7\r\ndata:b\rdata:  c\r\n\r\ndata\n\nretry: 3\n\ndata: open";
        assert_eq!(all(stream).unwrap(), ["{\"a\":1}", "b\n c", ""]);
        assert_eq!(all(b"data: [DONE]\n\n").unwrap(), ["[DONE]"]);
        assert_eq!(all(b"database: x\n\ndata : y\n\n").unwrap(), [""; 0]);
        assert_eq!(all(b"data: \xff\n\n"), Err(SseError::NotText));
        assert_eq!(all(&[b'x'; MAX_EVENT_BYTES + 1]), Err(SseError::TooLong));
        let many = format!("data: {}\n", "x".repeat(1000)).repeat(1100);
        assert_eq!(all(many.as_bytes()), Err(SseError::TooLong));
    }

    proptest! {
        #[test]
        fn how_a_stream_is_cut_does_not_matter(
            lines in proptest::collection::vec("(data|data:|data: |:|event: |)[ a\u{e4}]{0,4}(\r\n|\n|\r|\n\n)", 0..12),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let stream = lines.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in cuts.windows(2) {
                found.extend(events.push(&stream[piece[0]..piece[1]]).unwrap());
            }
            prop_assert_eq!(found, all(&stream).unwrap());
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = all(&bytes);
        }
    }
}
