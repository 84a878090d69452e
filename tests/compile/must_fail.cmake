# A program with a fault: compiles without it, and with it (-D FAULT) the compiler's first error
# holds the sentence that follows "// says: " in the source. So the test neither passes for another
# error nor for a program that is broken anyway. Few errors may follow: they bury the first.
#   cmake -D SOURCE=x.cpp -P must_fail.cmake -- COMPILER FLAG...
cmake_minimum_required(VERSION 3.20)

include(${CMAKE_CURRENT_LIST_DIR}/arguments.cmake)

set(ENV{LC_ALL} C)  # no translated messages
file(STRINGS ${SOURCE} says REGEX "^// says: ")
string(REGEX REPLACE "^// says: " "" says "${says}")
if(NOT says)
  message(FATAL_ERROR "${SOURCE} does not tell what the compiler should say")
endif()

execute_process(COMMAND ${command} -fsyntax-only ${SOURCE}
                RESULT_VARIABLE status ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Without its fault the program should compile:\n${output}")
endif()

execute_process(COMMAND ${command} -fsyntax-only -D FAULT ${SOURCE}
                RESULT_VARIABLE status ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "With its fault the program should not compile")
endif()
string(REGEX MATCH "error: [^\n]*" error "${output}")
string(REGEX MATCHALL "error: " errors "${output}")
list(LENGTH errors count)
string(FIND "${error}" "${says}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "The first error should hold\n  ${says}\nand is\n  ${error}\n\n${output}")
endif()
if(count GREATER 4)
  message(FATAL_ERROR "${count} errors, at most 4 are good:\n${output}")
endif()
message(STATUS "${error} (the first of ${count})")
