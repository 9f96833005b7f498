//! Runs the content of a page and collects the glyphs that it shows, with their places.
//!
//! Of graphics only what moves text is kept: matrices, and the forms that text lies in. Each operation costs a step, each
//! stream that is run is counted as unpacked, and forms are followed to a bounded depth, so that no page can run for ever.

use super::fonts::{self, Font};
use super::streams::{contents, too_many};
use super::{encodings, Glyphs, PlacedGlyph};
use crate::error::Result;
use crate::limits::Guard;
use hayro_syntax::content::UntypedIter;
use hayro_syntax::object::{Array, Dict, Name, Object, ObjectIdentifier, Stream, String as PdfString};
use hayro_syntax::page::{Page, Resources};
use std::collections::HashMap;
use std::rc::Rc;

/// Forms in forms.
const MAX_DEPTH: usize = 12;

/// Saved states of graphics.
const MAX_SAVED: usize = 256;

/// Glyphs of one page.
const MAX_GLYPHS: usize = 1_000_000;

/// Strings of so many codes are spaced out, if their characters have space between them.
const SPACED_OUT_CODES: usize = 4;

/// Fonts that are kept from page to page.
const MAX_FONTS: usize = 4096;

/// `[a b c d e f]`, applied to row vectors.
#[derive(Clone, Copy, Debug)]
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Matrix = Matrix([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// First this, then `next`.
    fn then(self, next: Matrix) -> Matrix {
        let (m, n) = (self.0, next.0);
        Matrix([
            m[0] * n[0] + m[1] * n[2],
            m[0] * n[1] + m[1] * n[3],
            m[2] * n[0] + m[3] * n[2],
            m[2] * n[1] + m[3] * n[3],
            m[4] * n[0] + m[5] * n[2] + n[4],
            m[4] * n[1] + m[5] * n[3] + n[5],
        ])
    }

    fn from_numbers(numbers: &[f64]) -> Option<Matrix> {
        Some(Matrix(numbers.get(..6)?.try_into().ok()?))
    }
}

#[derive(Clone)]
struct State {
    ctm: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    horizontal_scale: f64,
    leading: f64,
    rise: f64,
}

/// Marked content that is open.
enum Mark {
    Plain,
    /// Its glyphs are shown by this text instead.
    Replaced(String),
    /// Not for reading: headers, footers, decoration.
    Skipped,
}

/// Fonts of a document, by the object that they are.
#[derive(Default)]
pub struct FontCache {
    fonts: HashMap<ObjectIdentifier, Rc<Font>>,
}

struct Interpreter<'g, 'c> {
    guard: &'g Guard<'g>,
    cache: &'c mut FontCache,
    state: State,
    saved: Vec<State>,
    text_matrix: Matrix,
    line_matrix: Matrix,
    marks: Vec<Mark>,
    out: Glyphs,
}

/// The glyphs of a page, in the order that they are drawn.
pub fn glyphs(page: &Page, cache: &mut FontCache, guard: &Guard) -> Result<Glyphs> {
    let mut interpreter = Interpreter {
        guard,
        cache,
        state: State {
            ctm: Matrix::IDENTITY,
            font: None,
            size: 0.0,
            char_space: 0.0,
            word_space: 0.0,
            horizontal_scale: 1.0,
            leading: 0.0,
            rise: 0.0,
        },
        saved: Vec::new(),
        text_matrix: Matrix::IDENTITY,
        line_matrix: Matrix::IDENTITY,
        marks: Vec::new(),
        out: Glyphs::default(),
    };
    let mut bytes = Vec::new();
    if let Some(stream) = page.raw().get::<Stream>("Contents") {
        bytes = contents(&stream, guard)?;
    } else if let Some(streams) = page.raw().get::<Array>("Contents") {
        for stream in streams.iter::<Stream>() {
            bytes.extend(contents(&stream, guard)?);
            bytes.push(b' ');
        }
    }
    interpreter.run(&bytes, page.resources(), 0)?;
    Ok(interpreter.out)
}

impl Interpreter<'_, '_> {
    fn run(&mut self, content: &[u8], resources: &Resources, depth: usize) -> Result<()> {
        let mut operations = UntypedIter::new(content);
        let mut numbers: Vec<f64> = Vec::new();
        let saved = self.saved.len();
        let marks = self.marks.len();
        while let Some(operation) = operations.next() {
            self.guard.step()?;
            numbers.clear();
            let mut operands = operation.operands();
            numbers.extend(operation.operands().filter_map(|operand| match operand {
                Object::Number(number) => Some(number.as_f64()),
                _ => None,
            }));
            let first = operands.next();
            match &**operation.operator {
                b"q" if self.saved.len() < MAX_SAVED + saved => self.saved.push(self.state.clone()),
                b"Q" if self.saved.len() > saved => {
                    if let Some(state) = self.saved.pop() {
                        self.state = state;
                    }
                }
                b"cm" => {
                    if let Some(matrix) = Matrix::from_numbers(&numbers) {
                        self.state.ctm = matrix.then(self.state.ctm);
                    }
                }
                b"BT" => {
                    self.text_matrix = Matrix::IDENTITY;
                    self.line_matrix = Matrix::IDENTITY;
                }
                b"Tf" => {
                    self.state.size = numbers.first().copied().unwrap_or(0.0);
                    if let Some(Object::Name(name)) = first {
                        self.state.font = self.font(resources, name)?;
                    }
                }
                b"Tc" => self.state.char_space = number(&numbers),
                b"Tw" => self.state.word_space = number(&numbers),
                b"Tz" => self.state.horizontal_scale = number(&numbers) / 100.0,
                b"TL" => self.state.leading = number(&numbers),
                b"Ts" => self.state.rise = number(&numbers),
                b"Td" | b"TD" => {
                    if let [x, y, ..] = numbers[..] {
                        if operation.operator.len() == 2 && operation.operator[1] == b'D' {
                            self.state.leading = -y;
                        }
                        self.next_line(x, y);
                    }
                }
                b"Tm" => {
                    if let Some(matrix) = Matrix::from_numbers(&numbers) {
                        self.text_matrix = matrix;
                        self.line_matrix = matrix;
                    }
                }
                b"T*" => self.next_line(0.0, -self.state.leading),
                b"Tj" => self.show_operand(first)?,
                b"'" => {
                    self.next_line(0.0, -self.state.leading);
                    self.show_operand(first)?;
                }
                b"\"" => {
                    if let [word_space, char_space, ..] = numbers[..] {
                        self.state.word_space = word_space;
                        self.state.char_space = char_space;
                    }
                    self.next_line(0.0, -self.state.leading);
                    self.show_operand(operands.find(|operand| matches!(operand, Object::String(_))))?;
                }
                b"TJ" => {
                    if let Some(Object::Array(array)) = first {
                        for item in array.iter::<Object>() {
                            match item {
                                Object::String(string) => self.show(&string)?,
                                Object::Number(number) => self.advance(-number.as_f64() / 1000.0 * self.state.size),
                                _ => {}
                            }
                        }
                    }
                }
                b"Do" => {
                    if let Some(Object::Name(name)) = first {
                        self.draw(resources, name, depth)?;
                    }
                }
                b"BI" => self.out.images += 1,
                b"BMC" => self.marks.push(Mark::Plain),
                b"BDC" => {
                    let tag = match first {
                        Some(Object::Name(name)) => name.to_vec(),
                        _ => Vec::new(),
                    };
                    self.begin_mark(&tag, operands.next(), resources);
                }
                b"EMC" if self.marks.len() > marks => {
                    self.marks.pop();
                }
                _ => {}
            }
        }
        self.saved.truncate(saved);
        self.marks.truncate(marks);
        Ok(())
    }

    fn font(&mut self, resources: &Resources, name: &Name) -> Result<Option<Rc<Font>>> {
        let Some((id, dict)) = fonts::find(&resources.fonts, name) else { return Ok(None) };
        if let Some(font) = id.and_then(|id| self.cache.fonts.get(&id)) {
            return Ok(Some(font.clone()));
        }
        let font = Rc::new(Font::read(&dict, self.guard)?);
        if let Some(id) = id.filter(|_| self.cache.fonts.len() < MAX_FONTS) {
            self.cache.fonts.insert(id, font.clone());
        }
        Ok(Some(font))
    }

    fn draw(&mut self, resources: &Resources, name: &Name, depth: usize) -> Result<()> {
        let Some(object) = resources.get_x_object(name) else { return Ok(()) };
        let subtype = super::streams::name(object.dict(), "Subtype").unwrap_or_default();
        if subtype == "Image" {
            self.out.images += 1;
        }
        if subtype != "Form" || depth >= MAX_DEPTH {
            return Ok(());
        }
        let content = contents(&object, self.guard)?;
        let state = self.state.clone();
        let (text_matrix, line_matrix) = (self.text_matrix, self.line_matrix);
        let matrix: Vec<f64> = match object.dict().get::<Array>("Matrix") {
            Some(array) => array.iter::<f32>().take(6).map(f64::from).collect(),
            None => Vec::new(),
        };
        if let Some(matrix) = Matrix::from_numbers(&matrix) {
            self.state.ctm = matrix.then(self.state.ctm);
        }
        match object.dict().get::<Dict>("Resources") {
            Some(own) => self.run(&content, &Resources::new(own), depth + 1)?,
            None => self.run(&content, resources, depth + 1)?,
        }
        self.state = state;
        (self.text_matrix, self.line_matrix) = (text_matrix, line_matrix);
        Ok(())
    }

    fn begin_mark(&mut self, tag: &[u8], properties: Option<&Object>, resources: &Resources) {
        let properties = match properties {
            Some(Object::Dict(dict)) => Some(dict.clone()),
            Some(Object::Name(name)) => resources.properties.get::<Dict>(name),
            _ => None,
        };
        let is_pagination = tag == b"Artifact"
            && properties.as_ref().and_then(|p| super::streams::name(p, "Type")).as_deref() == Some("Pagination");
        if is_pagination {
            self.marks.push(Mark::Skipped);
            return;
        }
        let text = properties.and_then(|properties| properties.get::<PdfString>("ActualText"));
        self.marks.push(match text {
            Some(text) => Mark::Replaced(encodings::text_string(&text)),
            None => Mark::Plain,
        });
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line_matrix = Matrix([1.0, 0.0, 0.0, 1.0, x, y]).then(self.line_matrix);
        self.text_matrix = self.line_matrix;
    }

    /// Moves on along the line, in units of text space.
    fn advance(&mut self, distance: f64) {
        let is_vertical = self.state.font.as_ref().is_some_and(|font| font.is_vertical);
        let (x, y) = if is_vertical { (0.0, distance) } else { (distance * self.state.horizontal_scale, 0.0) };
        self.text_matrix = Matrix([1.0, 0.0, 0.0, 1.0, x, y]).then(self.text_matrix);
    }

    fn show_operand(&mut self, operand: Option<&Object>) -> Result<()> {
        match operand {
            Some(Object::String(string)) => self.show(string),
            _ => Ok(()),
        }
    }

    fn show(&mut self, string: &[u8]) -> Result<()> {
        let Some(font) = self.state.font.clone() else { return Ok(()) };
        font.glyphs(string, |glyph| {
            self.guard.step()?;
            let word_space = if glyph.is_space_code { self.state.word_space } else { 0.0 };
            let advance = match font.is_vertical {
                true => -self.state.size + self.state.char_space + word_space,
                false => glyph.width * self.state.size + self.state.char_space + word_space,
            };
            // Space between the characters of a whole word is a way to write it; between two of them it is a gap.
            let gap = if string.len() < SPACED_OUT_CODES { self.state.char_space } else { 0.0 };
            self.place(&font, glyph, advance - gap)?;
            self.advance(advance);
            Ok(())
        })
    }

    fn place(&mut self, font: &Font, glyph: fonts::Glyph, advance: f64) -> Result<()> {
        let mut text = glyph.text;
        for mark in self.marks.iter_mut().rev() {
            match mark {
                Mark::Plain => {}
                Mark::Skipped => return Ok(()),
                // The first of its glyphs shows it, the others nothing.
                Mark::Replaced(replacement) => text = Some(std::mem::take(replacement)),
            }
        }
        let Some(text) = text else {
            self.out.unknown += 1;
            return Ok(());
        };
        if self.out.glyphs.len() >= MAX_GLYPHS {
            return Err(too_many("glyphs on a page", MAX_GLYPHS));
        }
        let place = Matrix([1.0, 0.0, 0.0, 1.0, 0.0, self.state.rise]).then(self.text_matrix).then(self.state.ctm);
        let m = place.0;
        // The height of the letters on the page, and the way along the line.
        let size = self.state.size.abs() * (m[2] * m[2] + m[3] * m[3]).sqrt();
        let (dx, dy) = match font.is_vertical {
            true => (advance * m[2], advance * m[3]),
            false => {
                let advance = advance * self.state.horizontal_scale;
                (advance * m[0], advance * m[1])
            }
        };
        let numbers = [m[4], m[5], dx, dy, size];
        if numbers.iter().any(|number| !number.is_finite() || number.abs() > 1e7) {
            return Ok(());
        }
        let direction = if self.state.size < 0.0 { (-dx, -dy) } else { (dx, dy) };
        let along = match (dx == 0.0 && dy == 0.0, font.is_vertical) {
            (false, _) => direction,
            (true, false) => (m[0], m[1]),
            (true, true) => (-m[2], -m[3]),
        };
        self.guard.write(text.len())?;
        self.out.glyphs.push(PlacedGlyph {
            text,
            x: m[4],
            y: m[5],
            dx,
            dy,
            along,
            size,
            is_bold: font.is_bold,
            is_monospaced: font.is_monospaced,
        });
        Ok(())
    }
}

fn number(numbers: &[f64]) -> f64 {
    numbers.first().copied().unwrap_or(0.0)
}
