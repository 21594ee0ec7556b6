"""Chat templates that somebody prepared: some never end or fill the memory, others reach for what is not theirs."""

OVER = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop that writes": "{% for a in range(99999) %}{% for b in range(999) %}x{% endfor %}{% endfor %}",
    "a string of 8 GB": "{{ 'x' * 8000000000 }}",
    "a wide format": "{{ '%8000000000d' % 1 }}",
    "a padded word": "{{ 'x'.ljust(8000000000) }}",
    "a centred word": "{{ 'x' | center(8000000000) }}",
    "a list of lists": "{% set x = [range(99999) | list] * 99999 %}{{ x | string | length }}",
    "a power": "{{ (10 ** (10 ** 9)) | string | length }}",
    "lipsum": "{{ lipsum(n=9999999) }}",
    "a macro that calls itself in two ways": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
}
REFUSED = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ 1 / 0 }}",
    "globals": "{{ raise_exception.__globals__['sys'].modules.os.system('touch CANARY') }}",
    "cycler": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "attr": "{{ (''|attr('__class__'))|attr('__mro__') }}{{ 1 / 0 }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}{{ 1 / 0 }}",
    "a namespace": "{% set n = namespace(__class__=1) %}",
    "an attribute of a namespace": "{% set n = namespace() %}{% set n.__init__ = 1 %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends 'x' %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "an open bracket": "{% for",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "a tag that nobody knows": "{% system 'touch CANARY' %}",
    "a change of the chat": "{{ messages.append(1) }}",
}
