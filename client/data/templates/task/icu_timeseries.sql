-- icu_timeseries: 24 hourly values after admission, of stays of at least 30 hours.
wanted (name, feature, unit, factor) AS (
  -- Urea in mmol/L is 2.8014 times as much nitrogen in mg/dL.
  VALUES
    ('heart_rate', 'heart_rate', '/min', 1.0),
    ('systolic_bp', 'systolic_bp', 'mm[Hg]', 1.0),
    ('diastolic_bp', 'diastolic_bp', 'mm[Hg]', 1.0),
    ('mean_bp', 'mean_bp', 'mm[Hg]', 1.0),
    ('respiratory_rate', 'respiratory_rate', '/min', 1.0),
    ('spo2', 'spo2', '%', 1.0),
    ('temperature', 'temperature', 'Cel', 1.0),
    ('fio2', 'fio2', '%', 1.0),
    ('urine_output', 'urine_output', 'mL', 1.0),
    ('bun', 'bun', 'mg/dL', 1.0),
    ('urea', 'bun', 'mmol/L', 2.8014),
    ('creatinine', 'creatinine', 'mg/dL', 1.0),
    ('sodium', 'sodium', 'mmol/L', 1.0),
    ('potassium', 'potassium', 'mmol/L', 1.0),
    ('chloride', 'chloride', 'mmol/L', 1.0),
    ('bicarbonate', 'bicarbonate', 'mmol/L', 1.0),
    ('glucose', 'glucose', 'mg/dL', 1.0),
    ('calcium', 'calcium', 'mg/dL', 1.0),
    ('wbc', 'wbc', '10*3/uL', 1.0),
    ('hemoglobin', 'hemoglobin', 'g/dL', 1.0),
    ('platelets', 'platelets', '10*3/uL', 1.0),
    ('lactate', 'lactate', 'mmol/L', 1.0),
    ('ph', 'ph', '[pH]', 1.0),
    ('pao2', 'pao2', 'mm[Hg]', 1.0),
    ('paco2', 'paco2', 'mm[Hg]', 1.0),
    ('bilirubin', 'bilirubin', 'mg/dL', 1.0),
    ('albumin', 'albumin', 'g/dL', 1.0),
    ('inr', 'inr', '{INR}', 1.0)
),
known AS MATERIALIZED (  -- a missing unit is the wanted one, where it can be no other
  SELECT o.patient, o.at_time, o.name, w.feature, o.value, w.factor, w.unit AS wanted,
    unit_or(o.unit, w.unit, o.value, o.name, o.display) AS unit
  FROM observed o JOIN wanted w USING (name)
),
measured AS MATERIALIZED (
  SELECT s.patient, o.at_time, o.feature,
    CAST(floor(date_diff('second', s.start, o.at_time) / 3600) AS INTEGER) AS hour,
    in_unit(o.value, o.unit, o.wanted, o.name) * o.factor AS value
  FROM known o JOIN stay s USING (patient)
  WHERE o.at_time >= s.start AND o.at_time < s.start + INTERVAL 24 HOUR
),
hourly AS (  -- the last value of an hour; of urine, all of it
  SELECT patient, feature || '_' || lpad(CAST(hour AS VARCHAR), 2, '0') AS cell,
    CASE WHEN feature = 'urine_output' THEN sum(value)
      ELSE arg_max(value, struct_pack(at_time := at_time, value := value)) END AS value
  FROM measured WHERE plausible(value, feature) GROUP BY patient, feature, hour
),
wide AS (
  FROM hourly PIVOT (max(value) FOR cell IN (
    'heart_rate_00', 'heart_rate_01', 'heart_rate_02', 'heart_rate_03', 'heart_rate_04', 'heart_rate_05', 'heart_rate_06', 'heart_rate_07', 'heart_rate_08', 'heart_rate_09', 'heart_rate_10', 'heart_rate_11',
    'heart_rate_12', 'heart_rate_13', 'heart_rate_14', 'heart_rate_15', 'heart_rate_16', 'heart_rate_17', 'heart_rate_18', 'heart_rate_19', 'heart_rate_20', 'heart_rate_21', 'heart_rate_22', 'heart_rate_23',
    'systolic_bp_00', 'systolic_bp_01', 'systolic_bp_02', 'systolic_bp_03', 'systolic_bp_04', 'systolic_bp_05', 'systolic_bp_06', 'systolic_bp_07', 'systolic_bp_08', 'systolic_bp_09', 'systolic_bp_10', 'systolic_bp_11',
    'systolic_bp_12', 'systolic_bp_13', 'systolic_bp_14', 'systolic_bp_15', 'systolic_bp_16', 'systolic_bp_17', 'systolic_bp_18', 'systolic_bp_19', 'systolic_bp_20', 'systolic_bp_21', 'systolic_bp_22', 'systolic_bp_23',
    'diastolic_bp_00', 'diastolic_bp_01', 'diastolic_bp_02', 'diastolic_bp_03', 'diastolic_bp_04', 'diastolic_bp_05', 'diastolic_bp_06', 'diastolic_bp_07', 'diastolic_bp_08', 'diastolic_bp_09', 'diastolic_bp_10', 'diastolic_bp_11',
    'diastolic_bp_12', 'diastolic_bp_13', 'diastolic_bp_14', 'diastolic_bp_15', 'diastolic_bp_16', 'diastolic_bp_17', 'diastolic_bp_18', 'diastolic_bp_19', 'diastolic_bp_20', 'diastolic_bp_21', 'diastolic_bp_22', 'diastolic_bp_23',
    'mean_bp_00', 'mean_bp_01', 'mean_bp_02', 'mean_bp_03', 'mean_bp_04', 'mean_bp_05', 'mean_bp_06', 'mean_bp_07', 'mean_bp_08', 'mean_bp_09', 'mean_bp_10', 'mean_bp_11',
    'mean_bp_12', 'mean_bp_13', 'mean_bp_14', 'mean_bp_15', 'mean_bp_16', 'mean_bp_17', 'mean_bp_18', 'mean_bp_19', 'mean_bp_20', 'mean_bp_21', 'mean_bp_22', 'mean_bp_23',
    'respiratory_rate_00', 'respiratory_rate_01', 'respiratory_rate_02', 'respiratory_rate_03', 'respiratory_rate_04', 'respiratory_rate_05', 'respiratory_rate_06', 'respiratory_rate_07', 'respiratory_rate_08', 'respiratory_rate_09', 'respiratory_rate_10', 'respiratory_rate_11',
    'respiratory_rate_12', 'respiratory_rate_13', 'respiratory_rate_14', 'respiratory_rate_15', 'respiratory_rate_16', 'respiratory_rate_17', 'respiratory_rate_18', 'respiratory_rate_19', 'respiratory_rate_20', 'respiratory_rate_21', 'respiratory_rate_22', 'respiratory_rate_23',
    'spo2_00', 'spo2_01', 'spo2_02', 'spo2_03', 'spo2_04', 'spo2_05', 'spo2_06', 'spo2_07', 'spo2_08', 'spo2_09', 'spo2_10', 'spo2_11',
    'spo2_12', 'spo2_13', 'spo2_14', 'spo2_15', 'spo2_16', 'spo2_17', 'spo2_18', 'spo2_19', 'spo2_20', 'spo2_21', 'spo2_22', 'spo2_23',
    'temperature_00', 'temperature_01', 'temperature_02', 'temperature_03', 'temperature_04', 'temperature_05', 'temperature_06', 'temperature_07', 'temperature_08', 'temperature_09', 'temperature_10', 'temperature_11',
    'temperature_12', 'temperature_13', 'temperature_14', 'temperature_15', 'temperature_16', 'temperature_17', 'temperature_18', 'temperature_19', 'temperature_20', 'temperature_21', 'temperature_22', 'temperature_23',
    'fio2_00', 'fio2_01', 'fio2_02', 'fio2_03', 'fio2_04', 'fio2_05', 'fio2_06', 'fio2_07', 'fio2_08', 'fio2_09', 'fio2_10', 'fio2_11',
    'fio2_12', 'fio2_13', 'fio2_14', 'fio2_15', 'fio2_16', 'fio2_17', 'fio2_18', 'fio2_19', 'fio2_20', 'fio2_21', 'fio2_22', 'fio2_23',
    'urine_output_00', 'urine_output_01', 'urine_output_02', 'urine_output_03', 'urine_output_04', 'urine_output_05', 'urine_output_06', 'urine_output_07', 'urine_output_08', 'urine_output_09', 'urine_output_10', 'urine_output_11',
    'urine_output_12', 'urine_output_13', 'urine_output_14', 'urine_output_15', 'urine_output_16', 'urine_output_17', 'urine_output_18', 'urine_output_19', 'urine_output_20', 'urine_output_21', 'urine_output_22', 'urine_output_23',
    'bun_00', 'bun_01', 'bun_02', 'bun_03', 'bun_04', 'bun_05', 'bun_06', 'bun_07', 'bun_08', 'bun_09', 'bun_10', 'bun_11',
    'bun_12', 'bun_13', 'bun_14', 'bun_15', 'bun_16', 'bun_17', 'bun_18', 'bun_19', 'bun_20', 'bun_21', 'bun_22', 'bun_23',
    'creatinine_00', 'creatinine_01', 'creatinine_02', 'creatinine_03', 'creatinine_04', 'creatinine_05', 'creatinine_06', 'creatinine_07', 'creatinine_08', 'creatinine_09', 'creatinine_10', 'creatinine_11',
    'creatinine_12', 'creatinine_13', 'creatinine_14', 'creatinine_15', 'creatinine_16', 'creatinine_17', 'creatinine_18', 'creatinine_19', 'creatinine_20', 'creatinine_21', 'creatinine_22', 'creatinine_23',
    'sodium_00', 'sodium_01', 'sodium_02', 'sodium_03', 'sodium_04', 'sodium_05', 'sodium_06', 'sodium_07', 'sodium_08', 'sodium_09', 'sodium_10', 'sodium_11',
    'sodium_12', 'sodium_13', 'sodium_14', 'sodium_15', 'sodium_16', 'sodium_17', 'sodium_18', 'sodium_19', 'sodium_20', 'sodium_21', 'sodium_22', 'sodium_23',
    'potassium_00', 'potassium_01', 'potassium_02', 'potassium_03', 'potassium_04', 'potassium_05', 'potassium_06', 'potassium_07', 'potassium_08', 'potassium_09', 'potassium_10', 'potassium_11',
    'potassium_12', 'potassium_13', 'potassium_14', 'potassium_15', 'potassium_16', 'potassium_17', 'potassium_18', 'potassium_19', 'potassium_20', 'potassium_21', 'potassium_22', 'potassium_23',
    'chloride_00', 'chloride_01', 'chloride_02', 'chloride_03', 'chloride_04', 'chloride_05', 'chloride_06', 'chloride_07', 'chloride_08', 'chloride_09', 'chloride_10', 'chloride_11',
    'chloride_12', 'chloride_13', 'chloride_14', 'chloride_15', 'chloride_16', 'chloride_17', 'chloride_18', 'chloride_19', 'chloride_20', 'chloride_21', 'chloride_22', 'chloride_23',
    'bicarbonate_00', 'bicarbonate_01', 'bicarbonate_02', 'bicarbonate_03', 'bicarbonate_04', 'bicarbonate_05', 'bicarbonate_06', 'bicarbonate_07', 'bicarbonate_08', 'bicarbonate_09', 'bicarbonate_10', 'bicarbonate_11',
    'bicarbonate_12', 'bicarbonate_13', 'bicarbonate_14', 'bicarbonate_15', 'bicarbonate_16', 'bicarbonate_17', 'bicarbonate_18', 'bicarbonate_19', 'bicarbonate_20', 'bicarbonate_21', 'bicarbonate_22', 'bicarbonate_23',
    'glucose_00', 'glucose_01', 'glucose_02', 'glucose_03', 'glucose_04', 'glucose_05', 'glucose_06', 'glucose_07', 'glucose_08', 'glucose_09', 'glucose_10', 'glucose_11',
    'glucose_12', 'glucose_13', 'glucose_14', 'glucose_15', 'glucose_16', 'glucose_17', 'glucose_18', 'glucose_19', 'glucose_20', 'glucose_21', 'glucose_22', 'glucose_23',
    'calcium_00', 'calcium_01', 'calcium_02', 'calcium_03', 'calcium_04', 'calcium_05', 'calcium_06', 'calcium_07', 'calcium_08', 'calcium_09', 'calcium_10', 'calcium_11',
    'calcium_12', 'calcium_13', 'calcium_14', 'calcium_15', 'calcium_16', 'calcium_17', 'calcium_18', 'calcium_19', 'calcium_20', 'calcium_21', 'calcium_22', 'calcium_23',
    'wbc_00', 'wbc_01', 'wbc_02', 'wbc_03', 'wbc_04', 'wbc_05', 'wbc_06', 'wbc_07', 'wbc_08', 'wbc_09', 'wbc_10', 'wbc_11',
    'wbc_12', 'wbc_13', 'wbc_14', 'wbc_15', 'wbc_16', 'wbc_17', 'wbc_18', 'wbc_19', 'wbc_20', 'wbc_21', 'wbc_22', 'wbc_23',
    'hemoglobin_00', 'hemoglobin_01', 'hemoglobin_02', 'hemoglobin_03', 'hemoglobin_04', 'hemoglobin_05', 'hemoglobin_06', 'hemoglobin_07', 'hemoglobin_08', 'hemoglobin_09', 'hemoglobin_10', 'hemoglobin_11',
    'hemoglobin_12', 'hemoglobin_13', 'hemoglobin_14', 'hemoglobin_15', 'hemoglobin_16', 'hemoglobin_17', 'hemoglobin_18', 'hemoglobin_19', 'hemoglobin_20', 'hemoglobin_21', 'hemoglobin_22', 'hemoglobin_23',
    'platelets_00', 'platelets_01', 'platelets_02', 'platelets_03', 'platelets_04', 'platelets_05', 'platelets_06', 'platelets_07', 'platelets_08', 'platelets_09', 'platelets_10', 'platelets_11',
    'platelets_12', 'platelets_13', 'platelets_14', 'platelets_15', 'platelets_16', 'platelets_17', 'platelets_18', 'platelets_19', 'platelets_20', 'platelets_21', 'platelets_22', 'platelets_23',
    'lactate_00', 'lactate_01', 'lactate_02', 'lactate_03', 'lactate_04', 'lactate_05', 'lactate_06', 'lactate_07', 'lactate_08', 'lactate_09', 'lactate_10', 'lactate_11',
    'lactate_12', 'lactate_13', 'lactate_14', 'lactate_15', 'lactate_16', 'lactate_17', 'lactate_18', 'lactate_19', 'lactate_20', 'lactate_21', 'lactate_22', 'lactate_23',
    'ph_00', 'ph_01', 'ph_02', 'ph_03', 'ph_04', 'ph_05', 'ph_06', 'ph_07', 'ph_08', 'ph_09', 'ph_10', 'ph_11',
    'ph_12', 'ph_13', 'ph_14', 'ph_15', 'ph_16', 'ph_17', 'ph_18', 'ph_19', 'ph_20', 'ph_21', 'ph_22', 'ph_23',
    'pao2_00', 'pao2_01', 'pao2_02', 'pao2_03', 'pao2_04', 'pao2_05', 'pao2_06', 'pao2_07', 'pao2_08', 'pao2_09', 'pao2_10', 'pao2_11',
    'pao2_12', 'pao2_13', 'pao2_14', 'pao2_15', 'pao2_16', 'pao2_17', 'pao2_18', 'pao2_19', 'pao2_20', 'pao2_21', 'pao2_22', 'pao2_23',
    'paco2_00', 'paco2_01', 'paco2_02', 'paco2_03', 'paco2_04', 'paco2_05', 'paco2_06', 'paco2_07', 'paco2_08', 'paco2_09', 'paco2_10', 'paco2_11',
    'paco2_12', 'paco2_13', 'paco2_14', 'paco2_15', 'paco2_16', 'paco2_17', 'paco2_18', 'paco2_19', 'paco2_20', 'paco2_21', 'paco2_22', 'paco2_23',
    'bilirubin_00', 'bilirubin_01', 'bilirubin_02', 'bilirubin_03', 'bilirubin_04', 'bilirubin_05', 'bilirubin_06', 'bilirubin_07', 'bilirubin_08', 'bilirubin_09', 'bilirubin_10', 'bilirubin_11',
    'bilirubin_12', 'bilirubin_13', 'bilirubin_14', 'bilirubin_15', 'bilirubin_16', 'bilirubin_17', 'bilirubin_18', 'bilirubin_19', 'bilirubin_20', 'bilirubin_21', 'bilirubin_22', 'bilirubin_23',
    'albumin_00', 'albumin_01', 'albumin_02', 'albumin_03', 'albumin_04', 'albumin_05', 'albumin_06', 'albumin_07', 'albumin_08', 'albumin_09', 'albumin_10', 'albumin_11',
    'albumin_12', 'albumin_13', 'albumin_14', 'albumin_15', 'albumin_16', 'albumin_17', 'albumin_18', 'albumin_19', 'albumin_20', 'albumin_21', 'albumin_22', 'albumin_23',
    'inr_00', 'inr_01', 'inr_02', 'inr_03', 'inr_04', 'inr_05', 'inr_06', 'inr_07', 'inr_08', 'inr_09', 'inr_10', 'inr_11',
    'inr_12', 'inr_13', 'inr_14', 'inr_15', 'inr_16', 'inr_17', 'inr_18', 'inr_19', 'inr_20', 'inr_21', 'inr_22', 'inr_23'
  ) GROUP BY patient)
)
SELECT s.age, s.sex, s.died_in_icu AS died, s.patient, wide.* EXCLUDE (patient)
FROM stay s LEFT JOIN wide USING (patient)
WHERE s.stop IS NULL OR s.stop >= s.start + INTERVAL 30 HOUR
ORDER BY s.patient
