//! Points as SVG: one file that needs no other, with a legend, and a title for each point that a pointer shows.
//!
//! Colours are those of Paul Tol's bright scheme, which people who see colours differently can tell apart too; after six, the
//! shape changes as well. Light and dark follow the reader's setting. There are no axes: directions in the picture have no
//! unit. Every text is from rows that somebody else wrote, so all of them are escaped, and there is no script.

use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 640.0;
/// Where the points are, and the room that is left around them.
const PLOT: [f64; 4] = [20.0, 64.0, 680.0, 600.0];
const LEGEND_LEFT: f64 = 710.0;
const RADIUS: f64 = 3.5;

/// Categories that have a colour, or a colour and a shape, of their own.
const COLOURS: [&str; 6] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"];
pub const MOST_GROUPS: usize = 2 * COLOURS.len();
/// Of everything else.
const GREY: &str = "#999999";
/// From low to high: dark to light, without what would be lost on white or on black.
const SCALE: [[u8; 3]; 5] = [[68, 57, 131], [49, 104, 142], [33, 145, 140], [53, 183, 121], [160, 218, 57]];

/// Characters of a line of the legend, and of a point's title.
const LEGEND_CHARS: usize = 26;
const TITLE_CHARS: usize = 300;

/// A point of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub place: [f64; 2],
    /// Lines that a pointer shows.
    pub title: String,
    pub colour: Colour,
}

/// What a point's colour stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Colour {
    /// The legend's group of this number; beyond [`MOST_GROUPS`] they share one.
    Group(usize),
    /// From 0 to 1.
    Value(f64),
    /// There is none.
    None,
}

/// What the colours mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Legend {
    None,
    /// Names with how many points each has, in the order of their numbers.
    Groups {
        name: String,
        groups: Vec<(String, usize)>,
    },
    /// What is at the two ends.
    Scale {
        name: String,
        low: String,
        high: String,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    pub title: String,
    pub note: String,
    pub points: Vec<Point>,
    pub legend: Legend,
}

/// The picture as an SVG document.
pub fn svg(chart: &Chart) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\">\n\
         <style>\n\
         .back {{ fill: #ffffff }} text {{ fill: #222222; font: 13px system-ui, sans-serif }} .head {{ font-size: 18px; font-weight: 600 }} .note {{ fill: #666666; font-size: 12px }}\n\
         .p {{ stroke: #ffffff; stroke-width: .6; fill-opacity: .85 }} .p:hover {{ stroke: #000000; stroke-width: 1.5; fill-opacity: 1 }}\n\
         @media (prefers-color-scheme: dark) {{ .back {{ fill: #16181d }} text {{ fill: #e6e6e6 }} .note {{ fill: #9aa0aa }} .p {{ stroke: #16181d; fill-opacity: 1 }} .p:hover {{ stroke: #ffffff }} }}\n\
         </style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
        escaped(&chart.title)
    );
    let _ = writeln!(out, "<text class=\"head\" x=\"{}\" y=\"32\">{}</text>", PLOT[0], escaped(&cut(&chart.title, 80)));
    let _ =
        writeln!(out, "<text class=\"note\" x=\"{}\" y=\"{}\">{}</text>", PLOT[0], HEIGHT - 16.0, escaped(&chart.note));
    // What has no colour of its own lies below.
    let place = fitted(&chart.points);
    let is_plain = |point: &&Point| matches!(mark(point.colour), (colour, _) if colour == GREY);
    for point in chart.points.iter().filter(is_plain).chain(chart.points.iter().filter(|point| !is_plain(point))) {
        let (colour, is_diamond) = mark(point.colour);
        write_mark(&mut out, place(point.place), &colour, is_diamond, Some(&cut(&point.title, TITLE_CHARS)));
    }
    write_legend(&mut out, &chart.legend);
    out.push_str("</svg>\n");
    out
}

/// The picture as an HTML page.
pub fn html(chart: &Chart) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\n\
         <style>body {{ margin: 0; background: #ffffff }} svg {{ display: block; margin: auto; max-width: 100%; height: auto }} \
         @media (prefers-color-scheme: dark) {{ body {{ background: #16181d }} }}</style></head>\n<body>\n{}</body></html>\n",
        escaped(&chart.title),
        svg(chart)
    )
}

/// From places of points to places of the picture: as large as fits, the same in both directions.
fn fitted(points: &[Point]) -> impl Fn([f64; 2]) -> [f64; 2] {
    let mut bounds = [[f64::INFINITY, f64::NEG_INFINITY]; 2];
    for point in points {
        for (bound, &place) in bounds.iter_mut().zip(&point.place) {
            *bound = [bound[0].min(place), bound[1].max(place)];
        }
    }
    let [left, top, right, bottom] = PLOT;
    let room = [right - left, bottom - top];
    let scale = (0..2)
        .map(|axis| room[axis] / (bounds[axis][1] - bounds[axis][0]))
        .filter(|scale| scale.is_finite() && *scale > 0.0)
        .fold(f64::INFINITY, f64::min);
    let scale = if scale.is_finite() { scale } else { 0.0 };
    let middle = [left + room[0] / 2.0, top + room[1] / 2.0];
    move |place| {
        let offset = |axis: usize| scale * (place[axis] - (bounds[axis][0] + bounds[axis][1]) / 2.0);
        [middle[0] + offset(0), middle[1] - offset(1)]
    }
}

/// Colour of a point, and whether it is a diamond instead of a disc.
fn mark(colour: Colour) -> (String, bool) {
    match colour {
        Colour::Group(number) if number < MOST_GROUPS => {
            (COLOURS[number % COLOURS.len()].to_owned(), number >= COLOURS.len())
        }
        Colour::Value(value) if value.is_finite() => (on_scale(value), false),
        _ => (GREY.to_owned(), false),
    }
}

fn on_scale(value: f64) -> String {
    let place = value.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let below = (place as usize).min(SCALE.len() - 2);
    let part = place - below as f64;
    let channel = |at: usize| {
        let (low, high) = (f64::from(SCALE[below][at]), f64::from(SCALE[below + 1][at]));
        (low + part * (high - low)).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

fn write_mark(out: &mut String, [x, y]: [f64; 2], colour: &str, is_diamond: bool, title: Option<&str>) {
    let (name, shape) = if is_diamond {
        let size = RADIUS * 1.25;
        let path = format!("d=\"M{:.1} {:.1}l{size} {size}l-{size} {size}l-{size} -{size}z\"", x, y - size);
        ("path", path)
    } else {
        ("circle", format!("cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\""))
    };
    let _ = write!(out, "<{name} class=\"p\" {shape} fill=\"{colour}\"");
    let _ = match title {
        Some(title) => writeln!(out, "><title>{}</title></{name}>", escaped(title)),
        None => writeln!(out, "/>"),
    };
}

fn write_legend(out: &mut String, legend: &Legend) {
    let text = |out: &mut String, x: f64, y: f64, class: &str, line: &str| {
        let _ = writeln!(out, "<text{class} x=\"{x}\" y=\"{y}\">{}</text>", escaped(line));
    };
    match legend {
        Legend::None => {}
        Legend::Groups { name, groups } => {
            text(out, LEGEND_LEFT, 84.0, " class=\"note\"", &cut(name, LEGEND_CHARS));
            let shown = groups.iter().take(MOST_GROUPS).map(|(name, count)| (cut(name, LEGEND_CHARS), *count));
            let rest = groups.get(MOST_GROUPS..).unwrap_or_default();
            let others = (!rest.is_empty())
                .then(|| (format!("{} others", rest.len()), rest.iter().map(|(_, count)| count).sum()));
            for ((name, count), number) in shown.chain(others).zip(0..) {
                let y = 110.0 + 24.0 * f64::from(number);
                let (colour, is_diamond) = mark(Colour::Group(number as usize));
                write_mark(out, [LEGEND_LEFT + 6.0, y - 4.5], &colour, is_diamond, None);
                text(out, LEGEND_LEFT + 20.0, y, "", &format!("{name} ({count})"));
            }
        }
        Legend::Scale { name, low, high } => {
            text(out, LEGEND_LEFT, 84.0, " class=\"note\"", &cut(name, LEGEND_CHARS));
            let steps = 20;
            for step in 0..steps {
                let colour = on_scale(1.0 - f64::from(step) / f64::from(steps - 1));
                let y = 100.0 + 10.0 * f64::from(step);
                let _ = writeln!(
                    out,
                    "<rect x=\"{LEGEND_LEFT}\" y=\"{y}\" width=\"16\" height=\"10.5\" fill=\"{colour}\"/>"
                );
            }
            text(out, LEGEND_LEFT + 26.0, 111.0, "", &cut(high, LEGEND_CHARS));
            text(out, LEGEND_LEFT + 26.0, 300.0, "", &cut(low, LEGEND_CHARS));
        }
    }
}

/// At most so many characters, with an ellipsis where some are left out.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Text as XML and HTML take it: nothing in it is markup, and characters that no document may have are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(x: f64, y: f64, title: &str, colour: Colour) -> Point {
        Point { place: [x, y], title: title.to_owned(), colour }
    }

    fn chart(points: Vec<Point>, legend: Legend) -> Chart {
        Chart { title: "articles".to_owned(), note: "note".to_owned(), points, legend }
    }

    #[test]
    fn no_text_is_markup() {
        let hostile = "</svg><script>alert(1)</script>\" onload='x' &amp; \u{1}\u{ffff}";
        let groups = vec![(hostile.to_owned(), 1)];
        let mut chart = chart(
            vec![point(0.0, 0.0, hostile, Colour::Group(0))],
            Legend::Groups { name: hostile.to_owned(), groups },
        );
        (chart.title, chart.note) = (hostile.to_owned(), hostile.to_owned());
        for document in [svg(&chart), html(&chart)] {
            assert!(!document.contains("<script") && !document.contains(['\u{1}', '\u{ffff}']));
            assert_eq!(document.matches("</svg>").count(), 1);
            assert!(!document.contains("onload='") && document.contains("&lt;/svg&gt;&lt;script&gt;alert(1)"));
        }
    }

    #[test]
    fn groups_beyond_the_colours_are_others() {
        let groups: Vec<(String, usize)> = (0..15).map(|number| (format!("group {number}"), 2)).collect();
        let points = (0..15).map(|number| point(0.0, 0.0, "", Colour::Group(number))).collect();
        let document = svg(&chart(points, Legend::Groups { name: "lang".to_owned(), groups }));
        assert!(
            document.contains("group 11 (2)") && !document.contains("group 12") && document.contains("3 others (6)")
        );
        // A point and a line of the legend for each.
        assert_eq!(document.matches("<path").count(), 2 * COLOURS.len());
        assert_eq!(document.matches("<circle").count(), 2 * COLOURS.len() + 3 + 1);
    }

    #[test]
    fn the_scale_has_its_ends() {
        assert_eq!((on_scale(0.0), on_scale(1.0)), ("#443983".to_owned(), "#a0da39".to_owned()));
        assert_eq!((on_scale(-5.0), on_scale(7.0)), (on_scale(0.0), on_scale(1.0)));
        let legend = Legend::Scale { name: "year".to_owned(), low: "1900".to_owned(), high: "2000".to_owned() };
        let document = svg(&chart(vec![point(0.0, 0.0, "", Colour::Value(f64::NAN))], legend));
        assert!(document.contains("1900") && document.contains("2000") && document.contains(GREY));
    }

    proptest! {
        #[test]
        fn every_point_is_inside_the_picture(places in prop::collection::vec((-1e6f64..1e6, -1e6f64..1e6), 0..50)) {
            let points: Vec<Point> = places.iter().map(|&(x, y)| point(x, y, "", Colour::None)).collect();
            let fit = fitted(&points);
            for point in &points {
                let [x, y] = fit(point.place);
                prop_assert!((PLOT[0] - 0.01..=PLOT[2] + 0.01).contains(&x) && (PLOT[1] - 0.01..=PLOT[3] + 0.01).contains(&y));
            }
        }
    }
}
