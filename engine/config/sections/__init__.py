"""
Sections: every option, declared once as a field of the struct that its user gets.

Owns the declarations: of each option its key, kind, default, unit and meaning.  A part
of the engine is given one of these structs and reads its fields, which mypy checks;
the table (`config.keys`) and all that is made of it (`check`, `explain`, the reference,
the errors) are read out of the same fields.  It imports no part of the engine, so that
`check` and `--help` need not load what they describe; the parts import it downwards.

Path: here -> ``config.keys``; read by `config.values.Values.of`
"""
