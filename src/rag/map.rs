//! `rag_map`: the chunks of an index as a picture.
//!
//! What is drawn is what the caller may see: the chunks are read together with their rows, as in a search. Of more than are
//! wanted, a sample is drawn that is the same every time.

use crate::error::{error, invalid_parameter, required, OrError, Result};
use crate::rag::catalog::{self, literal, quote, Index};
use crate::types::Vector;
use pg_rag_engine::map::chart::{self, Chart, Colour, Legend, Point};
use pg_rag_engine::map::{layout, principal, Rows};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::collections::HashMap;

/// Nearest neighbours are looked for among all pairs: two seconds for 5,000 points, twenty for so many.
const MAX_POINTS: i32 = 20_000;

/// Fewer different numbers than this are categories: a scale would show no more.
const FEWEST_ON_SCALE: usize = 9;

/// Characters of the chunk that a point's title shows, and of what stands before it.
const EXCERPT_CHARS: i32 = 160;

/// Characters of the colour's value that tell it from others: a column may hold whole documents, and the legend shows few.
const VALUE_CHARS: i32 = 200;

/// What a column's values are in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Time,
    Other,
}

/// A chunk as it is drawn.
struct Drawn {
    title: String,
    /// The value of the column that colours it, as text and, of numbers and times, as a number.
    colour: Option<(String, Option<f64>)>,
}

#[pg_extern(sql = false)]
fn rag_map(
    index: Option<pg_sys::Oid>,
    color_by: Option<&str>,
    title: Option<&str>,
    limit_points: Option<i32>,
    format: Option<&str>,
    layout: Option<&str>,
) -> Result<String> {
    let most = catalog::require_count("limit_points", required("limit_points", limit_points)?, MAX_POINTS)?;
    let write = match required("format", format)? {
        "svg" => chart::svg,
        "html" => chart::html,
        other => return Err(invalid_parameter(format!("format must be \"svg\" or \"html\", not \"{other}\""))),
    };
    let by_neighbours = match required("layout", layout)? {
        "neighbors" => true,
        "pca" => false,
        other => return Err(invalid_parameter(format!("layout must be \"neighbors\" or \"pca\", not \"{other}\""))),
    };
    let index = catalog::resolve(index)?;
    let colour = color_by.map(|column| Ok((column, kind_of(&index, column)?))).transpose()?;
    if let Some(column) = title {
        kind_of(&index, column)?;
    }
    let (total, drawn, elements) = read(&index, colour, title.or(index.title_column.as_deref()), most)?;

    let dimensions = elements.len() / drawn.len().max(1);
    let rows = Rows::new(&elements, dimensions);
    let mut pause = || {
        pgrx::check_for_interrupts!();
    };
    let plane = principal::project(rows, &mut pause);
    let count = match drawn.len() as i64 {
        all if all == total => format!("{total} chunks"),
        some => format!("{some} of {total} chunks"),
    };
    let (places, note) = if by_neighbours {
        let note = "near points are alike; directions and the distance between groups mean nothing";
        (layout::refine(rows, &plane.points, &mut pause), format!("{count}, by nearest neighbours: {note}"))
    } else {
        let [first, second] = plane.explained.map(|share| 100.0 * share);
        let note =
            format!("{count}, by their two principal components, with {first:.1} % and {second:.1} % of the variance");
        (plane.points, note)
    };
    let (legend, colours) = colours(color_by, &drawn);
    let points = places.into_iter().zip(drawn).zip(colours);
    Ok(write(&Chart {
        title: catalog::relation_name(index.view_oid),
        note,
        points: points.map(|((place, drawn), colour)| Point { place, title: drawn.title, colour }).collect(),
        legend,
    }))
}

/// What a column of the source table holds; fails if there is none of this name.
fn kind_of(index: &Index, column: &str) -> Result<Kind> {
    let kind = catalog::read_one::<String>(
        // A domain counts as what it is over.
        "SELECT CASE WHEN k.kind OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8', 'pg_catalog.float4', 'pg_catalog.float8', 'pg_catalog.numeric']::regtype[]::oid[]) THEN 'number'
                     WHEN k.kind OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.date', 'pg_catalog.timestamp', 'pg_catalog.timestamptz']::regtype[]::oid[]) THEN 'time'
                     ELSE 'other' END
           FROM pg_catalog.pg_attribute a
           JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
           CROSS JOIN LATERAL (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END AS kind) k
          WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name
            AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped",
        &[index.source_oid.into(), column.into()],
    )?;
    match kind.as_deref() {
        Some("number") => Ok(Kind::Number),
        Some("time") => Ok(Kind::Time),
        Some(_) => Ok(Kind::Other),
        None => Err(error(
            PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation {} does not exist", index.source),
        )),
    }
}

/// How many chunks the caller may see, and `most` of them with their vectors, one after the other.
fn read(
    index: &Index,
    colour: Option<(&str, Kind)>,
    title: Option<&str>,
    most: i64,
) -> Result<(i64, Vec<Drawn>, Vec<f32>)> {
    // Of the text: a summary says again what is there already.
    let joined = index.join_condition();
    let from = format!("{} s JOIN {} c ON {joined} AND c.summary_hash IS NULL", index.source, index.chunks);
    let total = catalog::read_one::<i64>(&format!("SELECT pg_catalog.count(*) FROM {from}"), &[])?.unwrap_or_default();
    // Chosen by their numbers first, so that vectors are not sorted.
    let sample = format!("SELECT c.chunk_id FROM {from} ORDER BY pg_catalog.hashint8(c.chunk_id), c.chunk_id LIMIT $1");
    let keys: Vec<_> = index.key_columns.iter().map(|key| format!("s.{}::text", quote(key))).collect();
    let column = |name: &str| format!("s.{}", quote(name));
    let (text, number) = match colour {
        None => ("NULL".to_owned(), "NULL::float8".to_owned()),
        Some((name, Kind::Number)) => (column(name), format!("{}::float8", column(name))),
        Some((name, Kind::Time)) => (column(name), format!("EXTRACT(epoch FROM {})::float8", column(name))),
        Some((name, Kind::Other)) => (column(name), "NULL::float8".to_owned()),
    };
    let query = format!(
        "SELECT c.embedding, pg_catalog.left(coalesce({title}::text, pg_catalog.concat_ws({comma}, {keys})), {EXCERPT_CHARS}),
                pg_catalog.left(c.chunk, {EXCERPT_CHARS}), pg_catalog.left({text}::text, {VALUE_CHARS}), {number}
           FROM {from} WHERE c.chunk_id OPERATOR(pg_catalog.=) ANY ($1) ORDER BY c.chunk_id",
        title = title.map_or_else(|| "NULL".to_owned(), column),
        comma = literal(", "),
        keys = keys.join(", "),
    );
    Spi::connect(|client| {
        let ids = client.select(sample.as_str(), None, &[most.into()]).or_error()?;
        let ids = ids
            .into_iter()
            .map(|row| Ok(row.get::<i64>(1).or_error()?.unwrap_or_default()))
            .collect::<Result<Vec<i64>>>()?;
        let (mut drawn, mut elements) = (Vec::with_capacity(ids.len()), Vec::new());
        for row in client.select(query.as_str(), None, &[ids.into()]).or_error()? {
            let Some(vector) = row.get::<Vector>(1).or_error()? else { continue };
            elements.extend(vector.into_elements());
            let head = row.get::<String>(2).or_error()?.unwrap_or_default();
            let excerpt = row.get::<String>(3).or_error()?.unwrap_or_default();
            let number = row.get::<f64>(5).or_error()?.filter(|number| number.is_finite());
            drawn.push(Drawn {
                title: format!("{head}\n{excerpt}"),
                colour: row.get::<String>(4).or_error()?.map(|text| (text, number)),
            });
        }
        Ok((total, drawn, elements))
    })
}

/// The legend, and the colour of each point.
fn colours(column: Option<&str>, drawn: &[Drawn]) -> (Legend, Vec<Colour>) {
    let Some(name) = column.map(str::to_owned) else { return (Legend::None, vec![Colour::None; drawn.len()]) };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (text, _) in drawn.iter().filter_map(|drawn| drawn.colour.as_ref()) {
        *counts.entry(text).or_default() += 1;
    }
    let numbers: Vec<(f64, &str)> = drawn
        .iter()
        .filter_map(|drawn| drawn.colour.as_ref())
        .filter_map(|(text, number)| Some(((*number)?, text.as_str())))
        .collect();
    if counts.len() >= FEWEST_ON_SCALE && !numbers.is_empty() {
        let by_number = |a: &&(f64, &str), b: &&(f64, &str)| a.0.total_cmp(&b.0);
        let ends = numbers.iter().min_by(by_number).zip(numbers.iter().max_by(by_number));
        if let Some((&(low, low_text), &(high, high_text))) = ends {
            let value = |number: f64| if high > low { (number - low) / (high - low) } else { 0.5 };
            let colour = |drawn: &Drawn| match drawn.colour {
                Some((_, Some(number))) => Colour::Value(value(number)),
                _ => Colour::None,
            };
            let legend = Legend::Scale { name, low: low_text.to_owned(), high: high_text.to_owned() };
            return (legend, drawn.iter().map(colour).collect());
        }
    }
    let mut groups: Vec<(&str, usize)> = counts.into_iter().collect();
    groups.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let place: HashMap<&str, usize> = groups.iter().zip(0..).map(|(&(text, _), at)| (text, at)).collect();
    let colour = |drawn: &Drawn| {
        drawn
            .colour
            .as_ref()
            .and_then(|(text, _)| place.get(text.as_str()))
            .map_or(Colour::None, |&at| Colour::Group(at))
    };
    let colours = drawn.iter().map(colour).collect();
    let groups = groups.iter().map(|&(text, count)| (text.to_owned(), count)).collect();
    (Legend::Groups { name, groups }, colours)
}
