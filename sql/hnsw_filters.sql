-- Operator classes of the access method hnsw for filter columns: the default of each type. Strategy numbers and what becomes
-- of values: src/hnsw/filter_scan.rs.

DO $stamp$
DECLARE
    comparisons constant text[] := '{<,<=,=,>=,>,<>}';
    c record;
    member record;
    other record;
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

    -- Family, its types with the kind of each, and operators beside the comparisons of every type with every other:
    -- strategy number, name, type of the value.
    FOR c IN VALUES
        ('bool_ops', '{boolean:bool}', '{}'),
        ('integer_ops', '{smallint:int2,integer:int4,bigint:int8}', '{}'),
        ('float_ops', '{real:float,double precision:float}', '{}'),
        ('numeric_ops', '{numeric:numeric}', '{}'),
        ('datetime_ops', '{date:int4,timestamp:int8,timestamptz:int8}', '{}'),
        ('time_ops', '{time:int8}', '{}'),
        ('interval_ops', '{interval:interval}', '{}'),
        ('uuid_ops', '{uuid:uuid}', '{}'),
        ('text_ops', '{text:text}', '{10:~~:text}'),
        ('bpchar_ops', '{bpchar:text}', '{}'),
        ('name_ops', '{name:text}', '{10:~~:text}'),
        ('bytea_ops', '{bytea:text}', '{10:~~:bytea}'),
        ('network_ops', '{inet:hash}', '{}'),
        ('enum_ops', '{anyenum:identity}', '{}')
    LOOP
        EXECUTE format('CREATE OPERATOR FAMILY %I USING hnsw', c.column1);
        FOR member IN SELECT split_part(each, ':', 1) AS type, split_part(each, ':', 2) AS kind
                        FROM unnest(c.column2::text[]) AS each
        LOOP
            SELECT string_agg(format('OPERATOR %s %s (%s, %s)', n, comparisons[n], member.type, member.type), ', ' ORDER BY n)
              INTO operators FROM generate_series(1, 6) AS n;
            SELECT operators || coalesce(string_agg(format(', OPERATOR %s %s (%s, %s)', split_part(each, ':', 1),
                                                           split_part(each, ':', 2), member.type, split_part(each, ':', 3)), ''), '')
              INTO operators FROM unnest(c.column3::text[]) AS each;
            EXECUTE format('CREATE OPERATOR CLASS %I DEFAULT FOR TYPE %s USING hnsw FAMILY %I AS %s, FUNCTION 2 hnsw_filter_%s_support(internal)',
                           CASE member.type WHEN 'anyenum' THEN 'enum_ops' WHEN 'boolean' THEN 'bool_ops' WHEN 'smallint' THEN 'int2_ops'
                                WHEN 'integer' THEN 'int4_ops' WHEN 'bigint' THEN 'int8_ops' WHEN 'real' THEN 'float4_ops'
                                WHEN 'double precision' THEN 'float8_ops' ELSE member.type || '_ops' END,
                           member.type, c.column1, operators, member.kind);
        END LOOP;
        FOR member IN SELECT split_part(each, ':', 1) AS type FROM unnest(c.column2::text[]) AS each LOOP
            FOR other IN SELECT split_part(each, ':', 1) AS type FROM unnest(c.column2::text[]) AS each LOOP
                CONTINUE WHEN other.type = member.type;
                SELECT string_agg(format('OPERATOR %s %s (%s, %s)', n, comparisons[n], member.type, other.type), ', ')
                  INTO operators FROM generate_series(1, 6) AS n;
                EXECUTE format('ALTER OPERATOR FAMILY %I USING hnsw ADD %s', c.column1, operators);
            END LOOP;
        END LOOP;
    END LOOP;
END
$stamp$;

CREATE OPERATOR CLASS array_ops DEFAULT FOR TYPE anyarray USING hnsw AS
    OPERATOR 3 = (anyarray, anyarray),
    OPERATOR 7 && (anyarray, anyarray),
    OPERATOR 8 @> (anyarray, anyarray),
    OPERATOR 9 <@ (anyarray, anyarray),
    FUNCTION 2 hnsw_filter_array_support(internal);

CREATE OPERATOR CLASS jsonb_ops DEFAULT FOR TYPE jsonb USING hnsw AS
    OPERATOR 8 @> (jsonb, jsonb),
    OPERATOR 11 ? (jsonb, text),
    FUNCTION 2 hnsw_filter_document_support(internal);
