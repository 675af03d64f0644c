meaning AS (  -- the value sets that hold a code of `coding`: itself, or what it lies below
  SELECT v.name, c.system || ' ' || c.code AS code_id, max(v.depth) AS depth,
    min(v.display) AS display
  FROM (SELECT system, code, unnest(code_keys(system, code)) AS key FROM coding) c
  JOIN value_set v USING (key) GROUP BY v.name, c.system, c.code
),
