-- Windows: what was measured before a landmark. From `landmark` (landmark, patient, at), `observed`
-- and `wanted` (name, feature, unit, factor, hours) to `windowed`: of each landmark and feature the
-- first, last, lowest and highest value of the hours before it, and how many there are.
known AS MATERIALIZED (  -- a missing unit is the wanted one, where it can be no other
  SELECT o.patient, o.at_time, o.name, w.feature, o.value, w.factor, w.unit AS wanted, w.hours,
    unit_or(o.unit, w.unit, o.value, o.name, o.display) AS unit
  FROM observed o JOIN wanted w USING (name)
),
measured AS MATERIALIZED (
  SELECT patient, at_time, feature, hours, in_unit(value, unit, wanted, name) * factor AS value
  FROM known
),
windowed AS (
  SELECT l.landmark, m.feature, count(*) AS times,
    min(struct_pack(at_time := m.at_time, value := m.value)).value AS first,
    max(struct_pack(at_time := m.at_time, value := m.value)).value AS last,
    min(m.value) AS lowest, max(m.value) AS highest
  FROM landmark l JOIN measured m ON m.patient = l.patient
    AND m.at_time <= l.at AND m.at_time > l.at - m.hours * INTERVAL 1 HOUR
  WHERE plausible(m.value, m.feature)
  GROUP BY l.landmark, m.feature
),
