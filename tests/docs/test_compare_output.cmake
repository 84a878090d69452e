# compare_output.cmake on a program (CMake itself, echoing) whose output is the same, different,
# nowhere written down, or which fails.
set(folder ${FOLDER}/${CASE})
file(REMOVE_RECURSE ${folder})
file(MAKE_DIRECTORY ${folder})
set(program "${CMAKE_COMMAND};-E;echo;one two")
set(wanted 1)  # the exit status, 0 or not
set(says "")
if(CASE STREQUAL "same")
  file(WRITE ${folder}/expected "one two\n")
  set(wanted 0)
elseif(CASE STREQUAL "different")
  file(WRITE ${folder}/expected "one three\n")
  set(says "one three")
elseif(CASE STREQUAL "missing")
  set(says "is missing")
elseif(CASE STREQUAL "fails")
  file(WRITE ${folder}/expected "one two\n")
  set(program "${CMAKE_COMMAND};-E;false")
  set(says "ended with 1")
else()
  message(FATAL_ERROR "no such case: ${CASE}")
endif()

execute_process(
  COMMAND ${CMAKE_COMMAND} "-DPROGRAM=${program}" -DEXPECTED=${folder}/expected
    -DACTUAL=${folder}/actual -P ${CMAKE_CURRENT_LIST_DIR}/compare_output.cmake
  OUTPUT_VARIABLE said ERROR_VARIABLE complaint RESULT_VARIABLE result)
if(wanted EQUAL 0 AND NOT result EQUAL 0)
  message(FATAL_ERROR "the same output was refused:\n${said}${complaint}")
elseif(NOT wanted EQUAL 0 AND result EQUAL 0)
  message(FATAL_ERROR "the case '${CASE}' was not noticed")
endif()
string(REGEX REPLACE "[ \n]+" " " all "${said}${complaint}")  # message() fills its lines
string(FIND "${all}" "${says}" place)
if(place EQUAL -1)
  message(FATAL_ERROR "the message does not hold '${says}':\n${said}${complaint}")
endif()
