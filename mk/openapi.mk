# The document is read by the assembler, so the compiler does not list it as a dependency.
$(OUT)/api/openapi.o: api/openapi.json
# The script is read by the assembler, so the compiler does not list it as a dependency.
$(OUT)/server/shared_script.o: server/shared.lua
