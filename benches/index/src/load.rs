//! The table: made and filled where what the last run left is not the same rows.

use crate::case::Case;
use crate::side::{encode, Outcome, Side};
use bytes::{BufMut, BytesMut};
use std::io::Write;
use std::time::Instant;

/// Bytes handed to the connection at once.
const CHUNK: usize = 1 << 18;

/// Makes sure that the table holds the collection, without the rows to insert. Filling it anew drops its index.
pub fn ensure(side: &mut Side, case: &Case<'_>) -> Outcome<()> {
    let (data, dimensions, name) = (case.data, case.dimensions(), case.table());
    let stamp = format!("rows {} of {:016x}", data.rows, data.fingerprint);
    if comment(side, &name)?.as_deref() == Some(&stamp) {
        return Ok(());
    }
    let started = Instant::now();
    // Nothing but the benchmark may vacuum.
    side.client.batch_execute(&format!(
        "DROP TABLE IF EXISTS {name};
         CREATE TABLE {name} (id bigint NOT NULL, v vector({dimensions}) NOT NULL)
             WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)"
    ))?;
    let mut writer = side.client.copy_in(&format!("COPY {name} FROM STDIN (FORMAT binary)"))?;
    let mut out = BytesMut::with_capacity(2 * CHUNK);
    out.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for row in 0..data.rows {
        out.put_i16(2);
        out.put_i32(8);
        out.put_i64(row as i64);
        out.put_i32(4 + 4 * dimensions as i32);
        encode(data.collection.row(row), &mut out);
        if out.len() >= CHUNK {
            writer.write_all(&out)?;
            out.clear();
        }
    }
    out.put_i16(-1);
    writer.write_all(&out)?;
    writer.finish()?;
    side.client.batch_execute(&format!("VACUUM (FREEZE, ANALYZE) {name}"))?;
    side.client.batch_execute(&format!("COMMENT ON TABLE {name} IS '{stamp}'"))?;
    println!(
        "{}: {} rows of {dimensions} dimensions loaded in {:.1} s",
        side.label,
        data.rows,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Notes that the table is about to change, so that the next run fills it anew.
pub fn spoil(side: &mut Side, case: &Case<'_>) -> Outcome<()> {
    side.client.batch_execute(&format!("COMMENT ON TABLE {} IS NULL", case.table()))?;
    Ok(())
}

/// The comment of a table or index; `None` without one and where there is no such thing.
pub fn comment(side: &mut Side, name: &str) -> Outcome<Option<String>> {
    let row = side.client.query_one("SELECT obj_description(to_regclass($1), 'pg_class')", &[&name])?;
    Ok(row.get(0))
}
