-- Operator classes of the access method hnsw for filter columns: the default of each type. Strategy numbers and what becomes
-- of values: src/hnsw/filter_scan.rs.

DO $stamp$
DECLARE
    c record;
    member record;
    other record;
    comparisons constant text[] := '{<,<=,=,>=,>,<>}';
    operators text;
BEGIN
    -- One function for each kind of keys.
    FOR c IN SELECT unnest('{bool,int2,int4,int8,float,numeric,uuid,interval,text,identity,hash,array,document}'::text[]) AS kind
    LOOP
        EXECUTE format(
            $sql$
                CREATE FUNCTION hnsw_filter_%1$s_support(internal) RETURNS internal
                    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'hnsw_filter_%1$s_support_wrapper';
                COMMENT ON FUNCTION hnsw_filter_%1$s_support(internal)
                    IS 'tells the access method hnsw what becomes of the values of a filter column'
            $sql$, c.kind);
    END LOOP;

    -- A family: its types, each with its operator class and the kind of its keys; and operators of every type beside the
    -- comparisons, with strategy number, name, and the type of the value. Every type is compared with every other.
    FOR c IN VALUES
        ('bool_ops', '{boolean:bool_ops:bool}', '{}'),
        ('integer_ops', '{smallint:int2_ops:int2,integer:int4_ops:int4,bigint:int8_ops:int8}', '{}'),
        ('float_ops', '{real:float4_ops:float,double precision:float8_ops:float}', '{}'),
        ('numeric_ops', '{numeric:numeric_ops:numeric}', '{}'),
        ('datetime_ops', '{date:date_ops:int4,timestamp:timestamp_ops:int8,timestamptz:timestamptz_ops:int8}', '{}'),
        ('time_ops', '{time:time_ops:int8}', '{}'),
        ('interval_ops', '{interval:interval_ops:interval}', '{}'),
        ('uuid_ops', '{uuid:uuid_ops:uuid}', '{}'),
        ('text_ops', '{text:text_ops:text}', '{10:~~:text}'),
        ('bpchar_ops', '{bpchar:bpchar_ops:text}', '{}'),
        ('name_ops', '{name:name_ops:text}', '{10:~~:text}'),
        ('bytea_ops', '{bytea:bytea_ops:text}', '{10:~~:bytea}'),
        ('network_ops', '{inet:inet_ops:hash}', '{}'),
        ('enum_ops', '{anyenum:enum_ops:identity}', '{}')
    LOOP
        EXECUTE format('CREATE OPERATOR FAMILY %I USING hnsw', c.column1);
        EXECUTE format('COMMENT ON OPERATOR FAMILY %I USING hnsw IS %L', c.column1, 'conditions on filter columns');
        FOR member IN SELECT split_part(each, ':', 1) AS type, split_part(each, ':', 2) AS class, split_part(each, ':', 3) AS kind
                        FROM unnest(c.column2::text[]) AS each
        LOOP
            SELECT string_agg(format('OPERATOR %s %s (%s, %s)', strategy, name, member.type, value), ', ')
              INTO operators
              FROM (SELECT number::text, name, member.type FROM unnest(comparisons) WITH ORDINALITY AS n (name, number)
                    UNION ALL
                    SELECT split_part(each, ':', 1), split_part(each, ':', 2), split_part(each, ':', 3)
                      FROM unnest(c.column3::text[]) AS each) AS all_operators (strategy, name, value);
            EXECUTE format(
                'CREATE OPERATOR CLASS %I DEFAULT FOR TYPE %s USING hnsw FAMILY %I AS %s, FUNCTION 2 hnsw_filter_%s_support(internal)',
                member.class, member.type, c.column1, operators, member.kind);
            EXECUTE format('COMMENT ON OPERATOR CLASS %I USING hnsw IS %L', member.class,
                           'conditions on a filter column of type ' || member.type);
        END LOOP;
        FOR member IN SELECT split_part(each, ':', 1) AS type FROM unnest(c.column2::text[]) AS each LOOP
            FOR other IN SELECT split_part(each, ':', 1) AS type FROM unnest(c.column2::text[]) AS each LOOP
                CONTINUE WHEN other.type = member.type;
                SELECT string_agg(format('OPERATOR %s %s (%s, %s)', number, name, member.type, other.type), ', ')
                  INTO operators FROM unnest(comparisons) WITH ORDINALITY AS n (name, number);
                EXECUTE format('ALTER OPERATOR FAMILY %I USING hnsw ADD %s', c.column1, operators);
            END LOOP;
        END LOOP;
    END LOOP;
END
$stamp$;

CREATE OPERATOR FAMILY array_ops USING hnsw;
COMMENT ON OPERATOR FAMILY array_ops USING hnsw IS 'conditions on filter columns';
CREATE OPERATOR CLASS array_ops DEFAULT FOR TYPE anyarray USING hnsw FAMILY array_ops AS
    OPERATOR 3 = (anyarray, anyarray),
    OPERATOR 7 && (anyarray, anyarray),
    OPERATOR 8 @> (anyarray, anyarray),
    OPERATOR 9 <@ (anyarray, anyarray),
    FUNCTION 2 hnsw_filter_array_support(internal);
COMMENT ON OPERATOR CLASS array_ops USING hnsw IS 'conditions on a filter column of arrays';

CREATE OPERATOR FAMILY jsonb_ops USING hnsw;
COMMENT ON OPERATOR FAMILY jsonb_ops USING hnsw IS 'conditions on filter columns';
CREATE OPERATOR CLASS jsonb_ops DEFAULT FOR TYPE jsonb USING hnsw FAMILY jsonb_ops AS
    OPERATOR 8 @> (jsonb, jsonb),
    OPERATOR 11 ? (jsonb, text),
    FUNCTION 2 hnsw_filter_document_support(internal);
COMMENT ON OPERATOR CLASS jsonb_ops USING hnsw IS 'conditions on a filter column of type jsonb';
