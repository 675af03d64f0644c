-- no_show: every appointment, with what was known on the day before it.
dated AS (
  SELECT *, calendar_day(started) AS day, calendar_day(made) AS made_on, instant(started) AS at
  FROM booked WHERE calendar_day(started) IS NOT NULL
),
past AS (
  SELECT a.appointment, count(b.appointment) AS appointments,
    count(*) FILTER (b.missed) AS missed
  FROM dated a LEFT JOIN dated b
    ON b.patient = a.patient AND b.day < a.day AND b.day >= a.day - INTERVAL 2 YEAR
  GROUP BY a.appointment
)
SELECT a.patient, CAST(date_sub('year', p.birth, a.day) AS DOUBLE) AS age, p.sex,
  CASE WHEN a.made_on <= a.day THEN CAST(a.day - a.made_on AS DOUBLE) END AS lead_days,
  lower(dayname(a.day)) AS weekday, CAST(hour(a.at) AS DOUBLE) AS hour,
  h.appointments AS appointments_before, h.missed AS missed_before,
  CAST(a.missed AS DOUBLE) AS missed, a.day
FROM dated a JOIN people p USING (patient) JOIN past h USING (appointment)
ORDER BY a.patient, a.day, a.appointment
