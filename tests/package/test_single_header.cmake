# The single header: written alike every time, holds every header once and no other macro than
# theirs, links when included in two files, and computes what the headers compute.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

# Writes it from a folder of headers.
function(write_single_header include output)
  run(${CMAKE_COMMAND} -D INCLUDE=${include} -D OUTPUT=${output}
      -P ${CMAKE_CURRENT_LIST_DIR}/single_header.cmake)
endfunction()

file(COPY ${SOURCE}/include DESTINATION ${here}/copy)
write_single_header(${here}/copy/include ${here}/single/diffusion.hpp)
file(RENAME ${here}/copy ${here}/other)
write_single_header(${here}/other/include ${here}/second/diffusion.hpp)
run(${CMAKE_COMMAND} -E compare_files ${here}/single/diffusion.hpp ${here}/second/diffusion.hpp)

file(GLOB_RECURSE headers ${here}/other/include/*.hpp)
set(wanted "")
foreach(header IN LISTS headers)
  file(STRINGS ${header} macros REGEX "^ *# *define")
  list(APPEND wanted ${macros})
endforeach()
list(SORT wanted)
file(STRINGS ${here}/single/diffusion.hpp macros REGEX "^ *# *define")
list(SORT macros)
expect_equal("macros of the single header" "${macros}" "${wanted}")
list(FILTER macros EXCLUDE REGEX "^#define DIFFUSION_([A-Z0-9_]+_HPP|VERSION_[A-Z]+ [0-9]+)$")
expect_equal("macros beside guards and version" "${macros}" "")

run(${COMPILER} -std=c++20 -I ${here}/single -I ${EIGEN_INCLUDE} ${JSON_FLAGS}
    ${CMAKE_CURRENT_LIST_DIR}/main.cpp ${CMAKE_CURRENT_LIST_DIR}/second_file.cpp
    -o ${here}/my_program)
run_program(${here}/my_program)
file(READ ${PLAIN_OUTPUT} wanted)
expect_equal("what the program prints" "${output}" "${wanted}")

# The exact denoisers are there for files that have included <Eigen/Eigenvalues>. Not compiled: that
# takes long, and the headers are compiled elsewhere.
foreach(first Core Eigenvalues)
  file(WRITE ${here}/first.cpp "#include <Eigen/${first}>\n#include <diffusion.hpp>\n")
  run(${COMPILER} -std=c++20 -I ${here}/single -I ${EIGEN_INCLUDE} -E ${here}/first.cpp)
  string(FIND "${output}" "class Gaussian " place)
  if(place EQUAL -1)
    set(found Core)
  else()
    set(found Eigenvalues)
  endif()
  expect_equal("what brings the exact denoisers" "${found}" "${first}")
endforeach()
