//! Reads a matrix of half or single precision from a file of NumPy, versions 1 to 3 of the format.

use crate::vectors::Vectors;
use half::f16;

/// `bytes` is the whole file.
pub fn parse(bytes: &[u8]) -> Result<Vectors, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not a file of NumPy")?;
    let [major, _, rest @ ..] = rest else { return Err("cut off in its version".into()) };
    let (length, rest) = match (major, rest) {
        (1, [a, b, rest @ ..]) => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        (2 | 3, [a, b, c, d, rest @ ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(format!("version {major} of NumPy's format is unknown, or the file is cut off")),
    };
    let (header, body) = rest.split_at_checked(length).ok_or("cut off in its header")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is not text")?;

    if value_of(header, "fortran_order")? != "False" {
        return Err("the matrix is stored by columns".into());
    }
    let shape: Vec<usize> = value_of(header, "shape")?.split(',').flat_map(|part| part.trim().parse()).collect();
    let &[rows, dimensions] = &shape[..] else { return Err(format!("{shape:?} is not the shape of a matrix")) };
    let values: Vec<f32> = match value_of(header, "descr")? {
        "<f2" => body.chunks_exact(2).map(|value| f16::from_le_bytes([value[0], value[1]]).to_f32()).collect(),
        "<f4" => body.chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])).collect(),
        other => return Err(format!("elements of type {other} are not read")),
    };
    if dimensions == 0 || values.len() != rows * dimensions {
        return Err(format!("{} elements instead of {rows} times {dimensions}", values.len()));
    }
    Ok(Vectors { dimensions, values })
}

/// What stands for a key in the header, a dictionary in Python's notation; without quotes and parentheses.
fn value_of<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let missing = || format!("the header does not say {key}");
    let (_, rest) = header.split_once(&format!("'{key}':")).ok_or_else(missing)?;
    let rest = rest.trim_start();
    let end = match rest.as_bytes().first() {
        Some(b'(') => rest.find(')'),
        Some(b'\'') => rest[1..].find('\'').map(|at| at + 1),
        _ => rest.find([',', '}']),
    };
    Ok(rest[..end.ok_or_else(missing)?].trim_start_matches(['(', '\'']).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_matrix_of_halves_is_read() {
        let body: Vec<u8> = [1.0, -2.0, 0.5, 0.0].into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect();
        let read = parse(&file("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }\n", &body)).unwrap();
        assert_eq!((read.dimensions, read.len()), (2, 2));
        assert_eq!(read.row(1), [0.5, 0.0]);
    }

    #[test]
    fn what_is_not_a_matrix_is_refused() {
        for header in [
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }",
            "{}",
        ] {
            assert!(parse(&file(header, &[0; 4])).is_err(), "{header}");
        }
        assert!(parse(b"").is_err());
        assert!(parse(b"\x93NUMPY\x01\x00\xff\xff").is_err());
    }
}
