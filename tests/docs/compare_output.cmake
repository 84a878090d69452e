# Runs PROGRAM and compares its standard output with the file EXPECTED, byte for byte. What it
# printed stays in the file ACTUAL: copy that over EXPECTED once it is right.
execute_process(COMMAND ${EMULATOR} ${PROGRAM}
  OUTPUT_FILE ${ACTUAL} ERROR_VARIABLE complaint RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  file(READ ${ACTUAL} printed)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}\n${printed}${complaint}")
endif()
if(NOT EXISTS ${EXPECTED})
  message(FATAL_ERROR "${EXPECTED} is missing; this was printed: ${ACTUAL}")
endif()

file(READ ${ACTUAL} printed HEX)
file(READ ${EXPECTED} wanted HEX)
if(printed STREQUAL wanted)
  return()
endif()
set(how "")
find_program(diff NAMES diff)
if(diff)
  execute_process(COMMAND ${diff} -u --label expected --label printed ${EXPECTED} ${ACTUAL}
    OUTPUT_VARIABLE how)
else()
  file(READ ${EXPECTED} wanted)
  file(READ ${ACTUAL} printed)
  set(how "expected:\n${wanted}\nprinted:\n${printed}")
endif()
# As a warning message() would fill the lines; a status line leaves them as they are.
message(STATUS "${ACTUAL} is not ${EXPECTED}\n${how}")
message(FATAL_ERROR "the snippet prints something else than its page says")
