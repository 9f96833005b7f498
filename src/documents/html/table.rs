//! Rows and cells of one table, collected until it ends.

/// Cells that a short row is filled up with at most.
const FILLED_COLUMNS: usize = 64;

#[derive(Default)]
struct Row {
    cells: Vec<String>,
    is_header: bool,
}

/// A table that is being read.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    in_cell: bool,
    /// Open tables inside a cell; their cells become words of that cell.
    pub nested: usize,
}

impl Table {
    pub fn in_cell(&self) -> bool {
        self.in_cell
    }

    pub fn begin_row(&mut self) {
        self.in_cell = false;
        self.rows.push(Row::default());
    }

    pub fn begin_cell(&mut self, is_header: bool) {
        let is_first_row = self.rows.len() <= 1;
        let row = self.last_row();
        row.is_header = is_first_row && is_header && (row.cells.is_empty() || row.is_header);
        row.cells.push(String::new());
        self.in_cell = true;
    }

    pub fn end_cell(&mut self) {
        self.in_cell = false;
    }

    /// The text of the open cell.
    pub fn cell(&mut self) -> &mut String {
        let cells = &mut self.last_row().cells;
        if cells.is_empty() {
            cells.push(String::new());
        }
        let last = cells.len() - 1;
        &mut cells[last]
    }

    fn last_row(&mut self) -> &mut Row {
        if self.rows.is_empty() {
            self.rows.push(Row::default());
        }
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// A Markdown table when the first row is a header and there is more than one column, else one line per row.
    pub fn into_lines(self) -> Vec<String> {
        let rows: Vec<Row> =
            self.rows.into_iter().filter(|row| row.cells.iter().any(|cell| !cell.is_empty())).collect();
        let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0).min(FILLED_COLUMNS);
        if columns < 2 || !rows.first().is_some_and(|row| row.is_header) {
            let join = |row: Row| row.cells.into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ");
            return rows.into_iter().map(join).collect();
        }
        let mut lines: Vec<String> = rows.into_iter().map(|row| markdown_row(row.cells, columns)).collect();
        lines.insert(1, markdown_row(vec!["---".into(); columns], columns));
        lines
    }
}

fn markdown_row(mut cells: Vec<String>, columns: usize) -> String {
    if cells.len() < columns {
        cells.resize(columns, String::new());
    }
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}
