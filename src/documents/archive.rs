//! The ZIP archive that office documents and books are: its directory, and one file at a time.
//!
//! Written here because the limits are the point: the directory is walked under a count, a file is unpacked under the
//! guard's budget whatever size its headers claim, and nothing but what is asked for is unpacked. Names are only ever
//! compared with names of parts; nothing is written anywhere, so a name with `..` is just a name that nobody asks for.
//! An archive in an archive is a file like any other: it is never opened.

use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use flate2::{Decompress, FlushDecompress, Status};
use std::collections::HashMap;

const END_BYTES: usize = 22;
/// The end record is followed by a comment of at most this size.
const COMMENT_BYTES: usize = 65_535;
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
/// Longest name that is kept.
const NAME_BYTES: usize = 1024;
/// Unpacked at a time, and counted before it is.
const PIECE_BYTES: usize = 64 * 1024;

struct Entry {
    method: u16,
    is_encrypted: bool,
    packed_bytes: usize,
    local_at: usize,
}

/// The files of an archive by name; of several with the same name, the last.
pub struct Archive<'a> {
    bytes: &'a [u8],
    entries: HashMap<String, Entry>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

fn damaged() -> DocumentError {
    DocumentError::damaged("the directory of the ZIP archive cannot be read")
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub fn open(bytes: &'a [u8], guard: &Guard) -> Result<Self> {
        let lowest = bytes.len().saturating_sub(END_BYTES + COMMENT_BYTES);
        let end = (lowest..=bytes.len().saturating_sub(END_BYTES))
            .rev()
            .find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))
            .ok_or_else(|| DocumentError::damaged("the end of the ZIP archive is missing"))?;
        let directory_bytes = u32_at(bytes, end + 12).ok_or_else(damaged)? as usize;
        let directory_at = u32_at(bytes, end + 16).ok_or_else(damaged)? as usize;
        let is_large = directory_at == u32::MAX as usize || directory_bytes == u32::MAX as usize;
        let start = match is_large {
            true => Self::large_directory(bytes, end).ok_or_else(damaged)?,
            // What lies before the archive, if anything, shifts all of it.
            false => match u32_at(bytes, directory_at) {
                Some(0x0201_4b50) => directory_at,
                _ => end.checked_sub(directory_bytes).ok_or_else(damaged)?,
            },
        };
        let shift = start.saturating_sub(if is_large { start } else { directory_at });
        let mut entries = HashMap::new();
        let mut at = start;
        let mut count = 0usize;
        while u32_at(bytes, at) == Some(0x0201_4b50) {
            guard.step()?;
            count += 1;
            if count > guard.limits.archive_files {
                let limit = guard.limits.archive_files;
                return Err(DocumentError::StructureLimit { what: "files in its archive", limit });
            }
            let (name, entry, next) = Self::entry(bytes, at, shift).ok_or_else(damaged)?;
            if let Some(name) = name {
                entries.insert(name, entry);
            }
            at = next;
        }
        if entries.is_empty() && count == 0 && start != end {
            return Err(damaged());
        }
        Ok(Self { bytes, entries })
    }

    /// Where the directory of an archive in the 64-bit format starts.
    fn large_directory(bytes: &[u8], end: usize) -> Option<usize> {
        let locator = end.checked_sub(20)?;
        if !bytes[locator..].starts_with(b"PK\x06\x07") {
            return None;
        }
        let record = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        if !bytes.get(record..)?.starts_with(b"PK\x06\x06") {
            return None;
        }
        usize::try_from(u64_at(bytes, record + 48)?).ok()
    }

    /// The entry at `at`, its name if it is of use, and where the next one is.
    fn entry(bytes: &[u8], at: usize, shift: usize) -> Option<(Option<String>, Entry, usize)> {
        let flags = u16_at(bytes, at + 8)?;
        let name_bytes = usize::from(u16_at(bytes, at + 28)?);
        let extra_bytes = usize::from(u16_at(bytes, at + 30)?);
        let comment_bytes = usize::from(u16_at(bytes, at + 32)?);
        let (plain, packed) = (u32_at(bytes, at + 24)?, u32_at(bytes, at + 20)?);
        let mut packed_bytes = packed as usize;
        let mut local_at = u32_at(bytes, at + 42)? as usize;
        let name_at = at + ENTRY_BYTES;
        let name = bytes.get(name_at..name_at + name_bytes)?;
        let extra = bytes.get(name_at + name_bytes..name_at + name_bytes + extra_bytes)?;
        if packed == u32::MAX || plain == u32::MAX || local_at == u32::MAX as usize {
            let mut field = 0;
            while let (Some(id), Some(size)) = (u16_at(extra, field), u16_at(extra, field + 2)) {
                if id == 1 {
                    // Only the numbers that did not fit are there, in this order.
                    let mut value = field + 4;
                    if plain == u32::MAX {
                        value += 8;
                    }
                    if packed == u32::MAX {
                        packed_bytes = usize::try_from(u64_at(extra, value)?).ok()?;
                        value += 8;
                    }
                    if local_at == u32::MAX as usize {
                        local_at = usize::try_from(u64_at(extra, value)?).ok()?;
                    }
                }
                field += 4 + usize::from(size);
            }
        }
        let entry = Entry {
            method: u16_at(bytes, at + 10)?,
            is_encrypted: flags & 1 != 0,
            packed_bytes,
            local_at: local_at.checked_add(shift)?,
        };
        let name = (name_bytes <= NAME_BYTES).then(|| String::from_utf8_lossy(name).replace('\\', "/"));
        Some((name, entry, name_at + name_bytes + extra_bytes + comment_bytes))
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The contents of a file; `None` if there is no such file.
    pub fn read(&self, name: &str, guard: &Guard) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        if entry.is_encrypted {
            return Err(DocumentError::Encrypted);
        }
        let packed = self.packed(entry).ok_or_else(|| {
            DocumentError::damaged(format!("file \"{name}\" of the archive is not where its directory says"))
        })?;
        match entry.method {
            0 => {
                guard.unpack(packed.len() as u64)?;
                Ok(Some(packed.to_vec()))
            }
            8 => inflate(packed, false, guard).map(Some),
            method => Err(DocumentError::damaged(format!("file \"{name}\" is packed by the unknown method {method}"))),
        }
    }

    /// The contents of a file that the document cannot be read without.
    pub fn require(&self, name: &str, guard: &Guard) -> Result<Vec<u8>> {
        self.read(name, guard)?
            .ok_or_else(|| DocumentError::damaged(format!("file \"{name}\" of the archive is missing")))
    }

    fn packed(&self, entry: &Entry) -> Option<&'a [u8]> {
        let local = self.bytes.get(entry.local_at..)?;
        if !local.starts_with(b"PK\x03\x04") {
            return None;
        }
        let start = LOCAL_BYTES + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
        local.get(start..start.checked_add(entry.packed_bytes)?)
    }
}

/// Unpacks DEFLATE data, with a zlib header or without, under the guard's budget. What comes after the end is ignored,
/// and so is a wrong checksum.
pub fn inflate(packed: &[u8], has_header: bool, guard: &Guard) -> Result<Vec<u8>> {
    match inflate_as_far_as_possible(packed, has_header, guard)? {
        (plain, true) => Ok(plain),
        (_, false) => Err(DocumentError::damaged("compressed data end too early or are not valid")),
    }
}

/// The same for data that may be damaged: what could be unpacked, and whether that is all.
pub fn inflate_as_far_as_possible(packed: &[u8], has_header: bool, guard: &Guard) -> Result<(Vec<u8>, bool)> {
    let mut state = Decompress::new(has_header);
    let mut plain = Vec::new();
    loop {
        let (taken, made) = (state.total_in() as usize, plain.len());
        let room = guard.unpack_room().min(PIECE_BYTES as u64) as usize;
        // Without room left, one more byte shows whether there is more than may be.
        plain.resize(made + room.max(1), 0);
        let status = state.decompress(&packed[taken..], &mut plain[made..], FlushDecompress::None);
        let new = (state.total_out() as usize).saturating_sub(made);
        plain.truncate(made + new);
        guard.unpack(new as u64)?;
        match status {
            Ok(Status::StreamEnd) => return Ok((plain, true)),
            Ok(Status::Ok) if new > 0 || state.total_in() as usize > taken => {}
            _ => return Ok((plain, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::testing::zip;

    fn open<'a>(bytes: &'a [u8], limits: &'a Limits) -> (Guard<'a>, Result<Archive<'a>>) {
        let guard = Guard::start(limits, bytes.len(), &|| false).unwrap();
        let archive = Archive::open(bytes, &guard);
        (guard, archive)
    }

    #[test]
    fn files_are_found_and_unpacked() {
        let bytes = zip(&[("a.xml", b"stored or packed"), ("dir/b", &[7; 100_000])]);
        let limits = Limits::default();
        let (guard, archive) = open(&bytes, &limits);
        let archive = archive.unwrap();
        assert_eq!(archive.read("a.xml", &guard), Ok(Some(b"stored or packed".to_vec())));
        assert_eq!(archive.read("dir/b", &guard).unwrap().unwrap().len(), 100_000);
        assert_eq!(archive.read("../a.xml", &guard), Ok(None));
        assert!(matches!(archive.require("c", &guard), Err(DocumentError::Damaged(_))));
        // Bytes before the archive shift it.
        let mut shifted = b"junk".to_vec();
        shifted.extend_from_slice(&bytes);
        let (guard, archive) = open(&shifted, &limits);
        assert_eq!(archive.unwrap().read("a.xml", &guard), Ok(Some(b"stored or packed".to_vec())));
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused_before_it_is_unpacked() {
        let bytes = zip(&[("bomb", &vec![0; 64 << 20])]);
        assert!(bytes.len() < 200_000);
        let limits = Limits { unpack_ratio: 10, ..Limits::default() };
        let (guard, archive) = open(&bytes, &limits);
        let limit = crate::limits::RATIO_FREE_BYTES;
        assert_eq!(archive.unwrap().read("bomb", &guard), Err(DocumentError::UnpackLimit { limit }));
        // Many files together are no way round it.
        let part = vec![0; 5 << 20];
        let bytes = zip(&[("a", &part), ("b", &part), ("c", &part), ("d", &part)]);
        let (guard, archive) = open(&bytes, &limits);
        let archive = archive.unwrap();
        let results: Vec<bool> = ["a", "b", "c", "d"].iter().map(|name| archive.read(name, &guard).is_ok()).collect();
        assert_eq!(results, [true, true, true, false]);
    }

    #[test]
    fn a_directory_of_too_many_files_is_refused() {
        let names: Vec<String> = (0..50).map(|number| format!("{number}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
        let bytes = zip(&files);
        let limits = Limits { archive_files: 49, ..Limits::default() };
        let (_, archive) = open(&bytes, &limits);
        assert!(matches!(archive.err(), Some(DocumentError::StructureLimit { limit: 49, .. })));
    }
}
