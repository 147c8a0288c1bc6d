"""Small text templates that escape what they print."""

from tmpl.markup import Markup, escape
from tmpl.template import Template, TemplateError

__all__ = ["Markup", "Template", "TemplateError", "escape"]
