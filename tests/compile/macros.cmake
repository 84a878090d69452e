# The library defines no macro but include guards and its version, undefines none, and leaves
# EIGEN_USE_THREADS to its users: compares the macros after all headers with those after what they
# include.
#   cmake -D FOLDER=where/the/lists/are -P macros.cmake -- COMPILER FLAG...
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/arguments.cmake)

function(macros_of header result)
  execute_process(COMMAND ${command} -x c++ -dM -E ${FOLDER}/${header}
                  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE error)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${header} does not compile:\n${error}")
  endif()
  string(REGEX MATCHALL "#define [A-Za-z0-9_]+" names "${output}")
  list(TRANSFORM names REPLACE "#define " "")
  set(${result} ${names} PARENT_SCOPE)
endfunction()

macros_of(all_headers.hpp ours)
macros_of(outside_headers.hpp outside)
set(added ${ours})
list(REMOVE_ITEM added ${outside})
set(lost ${outside})
list(REMOVE_ITEM lost ${ours})
set(guards ${added})
list(FILTER guards INCLUDE REGEX "^DIFFUSION_([A-Z0-9_]+_HPP|VERSION_(MAJOR|MINOR|PATCH))$")
set(wrong ${added})
list(REMOVE_ITEM wrong ${guards})

list(LENGTH guards count)
if(count LESS 30)  # the comparison itself would be broken
  message(FATAL_ERROR "Only ${count} macros of ours were found: ${guards}")
endif()
if(wrong)
  message(FATAL_ERROR "Macros that are neither include guards nor the version: ${wrong}")
endif()
if(lost)
  message(FATAL_ERROR "Macros of others that are undefined: ${lost}")
endif()
if("EIGEN_USE_THREADS" IN_LIST ours)
  message(FATAL_ERROR "EIGEN_USE_THREADS is the user's to define")
endif()
message(STATUS "${count} macros, all include guards or the version")
