UPDATE plans SET debited = debited - 1 WHERE study = '65d04692ee640537f0a8cdbe8f6ca9bb3efb841b8a334cf28c85f673a09f6930' AND part = 'train';
