first_icu AS (
  SELECT * FROM stays WHERE kind = 'icu' AND dated
  QUALIFY row_number() OVER (PARTITION BY patient ORDER BY started_earliest, started_at, stay) = 1
),
stay AS (  -- of adults; without times of day, from the first midnight to the last
  SELECT i.patient, p.person, p.sex, i.started_earliest AS day,
    CAST(date_sub('year', p.birth, i.started_earliest) AS DOUBLE) AS age,
    coalesce(i.started_at, CAST(i.started_earliest AS TIMESTAMPTZ)) AS start,
    coalesce(i.ended_at, CAST(i.ended_on + 1 AS TIMESTAMPTZ)) AS stop,
    CAST(h.died AS DOUBLE) AS died_in_hospital,
    CAST(CASE
      WHEN i.left_dead THEN true
      WHEN NOT h.died THEN false
      WHEN i.ended_on IS NULL THEN CASE WHEN h.ended_on IS NULL THEN i.died END
      WHEN p.death_at IS NOT NULL AND i.ended_at IS NOT NULL THEN p.death_at <= i.ended_at
      WHEN p.death_latest <= i.ended_on THEN true
      WHEN p.death_earliest > i.ended_on THEN false
      WHEN h.died AND i.ended_on < h.ended_on THEN false
      WHEN h.died AND coalesce(i.ended_at >= h.ended_at, i.ended_on >= h.ended_on) THEN true
    END AS DOUBLE) AS died_in_icu
  FROM first_icu i JOIN people p USING (patient)
  LEFT JOIN member m ON m.visit = i.stay
  LEFT JOIN stays h ON h.stay = m.stay AND h.kind <> 'icu'
  WHERE date_sub('year', p.birth, i.started_earliest) >= 18
),
