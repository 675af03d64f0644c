-- Appointments that were kept or missed, out of two tables: `appointments` (patient, started, made,
-- status) and `patients` (patient, sex: female or male, birth).
WITH people AS (
  SELECT CAST(patient AS VARCHAR) AS patient,
    CASE WHEN lower(sex) IN ('female', 'male') THEN lower(sex) END AS sex,
    calendar_day(CAST(birth AS VARCHAR)) AS birth
  FROM patients
),
booked AS (  -- cancelled ones, and those whose status says neither, are left out
  SELECT CAST(patient AS VARCHAR) AS patient, row_number() OVER () AS appointment,
    CAST(started AS VARCHAR) AS started, CAST(made AS VARCHAR) AS made,
    lower(trim(status)) IN ('noshow', 'no-show', 'no show', 'missed', 'did not attend') AS missed
  FROM appointments
  WHERE missed OR lower(trim(status)) IN ('fulfilled', 'arrived', 'checked-in', 'attended', 'kept')
),
