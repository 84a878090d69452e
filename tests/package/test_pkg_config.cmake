# pkg-config from an installed tree that was moved, and the compiler.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

set(ENV{PKG_CONFIG_PATH} ${PREFIX}/share/pkgconfig)
run(${PKG_CONFIG} --modversion diffusion)
string(STRIP "${output}" output)
expect_equal("the version" "${output}" "${VERSION}")

run(${PKG_CONFIG} --libs diffusion)
string(STRIP "${output}" output)
expect_equal("libraries to link" "${output}" "")

run(${PKG_CONFIG} --cflags diffusion)
separate_arguments(flags UNIX_COMMAND "${output}")
list(GET flags 0 flag)
string(REGEX REPLACE "^-I" "" include "${flag}")
get_filename_component(include ${include} ABSOLUTE)
expect_equal("the include folder" "${include}" "${PREFIX}/include")

run(${COMPILER} -std=c++20 ${CMAKE_CURRENT_LIST_DIR}/main.cpp ${flags} -o ${here}/my_program)
run_program(${here}/my_program)
