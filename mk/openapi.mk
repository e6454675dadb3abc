# The document is read by the assembler, so the compiler does not list it as a dependency.
$(OUT)/api/openapi.o: api/openapi.json
