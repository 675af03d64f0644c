UPDATE studies SET state = 'accepted', code = NULL WHERE digest = 'ad142309c4ba675cd35637b91849bd3501aff415666d797b35cb4d6b7e163eaa';
